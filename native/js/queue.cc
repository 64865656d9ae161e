#include "js/queue.h"

#include <memory>
#include <vector>

#include "js/convert.h"
#include "js/job.h"
#include "sys/descriptor.h"
#include "sys/folder_scan.h"
#include "sys/hot_reset.h"
#include "sys/iommufd.h"
#include "sys/program.h"
#include "sys/serial_queue.h"
#include "sys/vfio.h"

namespace aperture {

namespace {

// Descriptors closed by one call.
constexpr size_t kMostAtOnce = 1024;

// What outlives the JavaScript object when that is collected while operations are pending.
struct QueueState {
  explicit QueueState(const std::string& name) : queue(name) {}
  SerialQueue queue;
  // JavaScript thread only.
  size_t pending = 0;
  bool closed = false;
  std::vector<Napi::Promise::Deferred> waiting;

  void Ended(Napi::Env env) {
    if (--pending > 0) return;
    for (const Napi::Promise::Deferred& deferred : std::exchange(waiting, {})) deferred.Resolve(env.Null());
  }
};

class BlockingQueue : public Napi::ObjectWrap<BlockingQueue> {
 public:
  explicit BlockingQueue(const Napi::CallbackInfo& info) : Napi::ObjectWrap<BlockingQueue>(info) {
    state_ = std::make_shared<QueueState>(Args(info, "BlockingQueue").Text(0, "name"));
  }

  Napi::Value Open(const Napi::CallbackInfo& info) {
    const Args args(info, "BlockingQueue.open");
    const std::string path = args.Text(0, "path");
    const Access access = args.Access(1, "access");
    return Run<UniqueFd>(info, "open", path, [=] { return OpenPath(path, access); });
  }

  Napi::Value Close(const Napi::CallbackInfo& info) {
    const int fd = Args(info, "BlockingQueue.close").Descriptor(0, "fd");
    return Run<None>(info, "close", "descriptor " + std::to_string(fd), [=] { return CloseDescriptor(fd); });
  }

  Napi::Value CloseAll(const Napi::CallbackInfo& info) {
    const std::vector<int> fds = Args(info, "BlockingQueue.closeAll").Descriptors(0, "fds", kMostAtOnce);
    return Run<None>(info, "close", std::to_string(fds.size()) + " descriptors",
                     [=] { return CloseDescriptors(fds); });
  }

  Napi::Value Bind(const Napi::CallbackInfo& info) {
    const Args args(info, "BlockingQueue.bindIommufd");
    const int device = args.Descriptor(0, "deviceFd");
    const int iommufd = args.Descriptor(1, "iommufd");
    std::optional<Uuid> token;
    if (!args.IsNull(2)) {
      token.emplace();
      if (!ParseUuid(args.Text(2, "token"), &*token)) args.RangeFault(2, "token", "a UUID or null");
    }
    const std::string subject = args.Text(3, "subject");
    return Run<uint32_t>(info, "VFIO_DEVICE_BIND_IOMMUFD", subject, [=] {
      return BindIommufd(device, iommufd, token.has_value() ? &*token : nullptr, subject);
    });
  }

  Napi::Value RlimitMode(const Napi::CallbackInfo& info) {
    const int iommufd = Args(info, "BlockingQueue.iommufdSetRlimitMode").Descriptor(0, "iommufd");
    return Run<None>(info, "IOMMU_OPTION", "IOMMU_OPTION_RLIMIT_MODE",
                     [=] { return SetRlimitMode(iommufd); });
  }

  Napi::Value IommuInfo(const Napi::CallbackInfo& info) {
    const Args args(info, "BlockingQueue.iommuInfo");
    const int iommufd = args.Descriptor(0, "iommufd");
    const uint32_t device = args.Uint32(1, "device");
    const std::string subject = args.Text(2, "subject");
    return Run<IommuFacts>(info, "IOMMU_GET_HW_INFO", subject,
                           [=] { return GetIommuInfo(iommufd, device, subject); });
  }

  Napi::Value DeviceInfo(const Napi::CallbackInfo& info) {
    const Args args(info, "BlockingQueue.deviceInfo");
    const int device = args.Descriptor(0, "deviceFd");
    const std::string subject = args.Text(1, "subject");
    return Run<DeviceFacts>(info, "VFIO_DEVICE_GET_INFO", subject,
                            [=] { return GetDeviceInfo(device, subject); });
  }

  Napi::Value RegionInfo(const Napi::CallbackInfo& info) {
    const Args args(info, "BlockingQueue.regionInfo");
    const int device = args.Descriptor(0, "deviceFd");
    const uint32_t index = args.Uint32(1, "index");
    const std::string subject = args.Text(2, "subject");
    return Run<RegionFacts>(info, "VFIO_DEVICE_GET_REGION_INFO", subject,
                            [=] { return GetRegionInfo(device, index, subject); });
  }

  Napi::Value IrqInfo(const Napi::CallbackInfo& info) {
    const Args args(info, "BlockingQueue.irqInfo");
    const int device = args.Descriptor(0, "deviceFd");
    const uint32_t index = args.Uint32(1, "index");
    const std::string subject = args.Text(2, "subject");
    return Run<IrqFacts>(info, "VFIO_DEVICE_GET_IRQ_INFO", subject,
                         [=] { return GetIrqInfo(device, index, subject); });
  }

  Napi::Value HotResetInfo(const Napi::CallbackInfo& info) {
    const Args args(info, "BlockingQueue.hotResetInfo");
    const int device = args.Descriptor(0, "deviceFd");
    const std::string subject = args.Text(1, "subject");
    return Run<std::vector<ResetFunction>>(info, "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", subject,
                                           [=] { return GetHotResetInfo(device, subject); });
  }

  Napi::Value Reset(const Napi::CallbackInfo& info) {
    const Args args(info, "BlockingQueue.reset");
    const int device = args.Descriptor(0, "deviceFd");
    const std::string subject = args.Text(1, "subject");
    return Run<None>(info, "VFIO_DEVICE_RESET", subject, [=] { return ResetDevice(device, subject); });
  }

  Napi::Value FeatureProbe(const Napi::CallbackInfo& info) {
    const Args args(info, "BlockingQueue.featureProbe");
    const int device = args.Descriptor(0, "deviceFd");
    const auto feature = static_cast<uint32_t>(args.Integer(1, "feature", 0, UINT16_MAX));
    const std::string direction = args.Text(2, "direction");
    if (direction != "get" && direction != "set") args.RangeFault(2, "direction", "\"get\" or \"set\"");
    const std::string subject = args.Text(3, "subject");
    return Run<bool>(info, "VFIO_DEVICE_FEATURE", subject,
                     [=] { return ProbeFeature(device, feature, direction == "set", subject); });
  }

  Napi::Value MigrationFlags(const Napi::CallbackInfo& info) {
    const Args args(info, "BlockingQueue.migrationFlags");
    const int device = args.Descriptor(0, "deviceFd");
    const std::string subject = args.Text(1, "subject");
    return Run<MigrationFacts>(info, "VFIO_DEVICE_FEATURE_MIGRATION", subject,
                               [=] { return GetMigration(device, subject); });
  }

  Napi::Value DmaBufExport(const Napi::CallbackInfo& info) {
    const Args args(info, "BlockingQueue.dmaBufExport");
    const int device = args.Descriptor(0, "deviceFd");
    const uint32_t region = args.Uint32(1, "region");
    const uint64_t offset = args.Uint64(2, "offset");
    const uint64_t length = args.Uint64(3, "length");
    const std::string subject = args.Text(4, "subject");
    return Run<UniqueFd>(info, "VFIO_DEVICE_FEATURE_DMA_BUF", subject,
                         [=] { return ExportDmaBuf(device, region, offset, length, subject); });
  }

  Napi::Value ContainerApiVersion(const Napi::CallbackInfo& info) {
    const int container = Args(info, "BlockingQueue.containerApiVersion").Descriptor(0, "containerFd");
    return Run<int>(info, "VFIO_GET_API_VERSION", "container",
                    [=] { return GetContainerApiVersion(container); });
  }

  Napi::Value ContainerCheckExtension(const Napi::CallbackInfo& info) {
    const Args args(info, "BlockingQueue.containerCheckExtension");
    const int container = args.Descriptor(0, "containerFd");
    const uint32_t extension = args.Uint32(1, "extension");
    return Run<bool>(info, "VFIO_CHECK_EXTENSION", "container",
                     [=] { return CheckContainerExtension(container, extension); });
  }

  Napi::Value ContainerSetIommu(const Napi::CallbackInfo& info) {
    const Args args(info, "BlockingQueue.containerSetIommu");
    const int container = args.Descriptor(0, "containerFd");
    const uint32_t type = args.Uint32(1, "type");
    return Run<None>(info, "VFIO_SET_IOMMU", "container", [=] { return SetContainerIommu(container, type); });
  }

  Napi::Value GroupStatus(const Napi::CallbackInfo& info) {
    const Args args(info, "BlockingQueue.groupStatus");
    const int group = args.Descriptor(0, "groupFd");
    const std::string subject = args.Text(1, "subject");
    return Run<uint32_t>(info, "VFIO_GROUP_GET_STATUS", subject,
                         [=] { return GetGroupStatus(group, subject); });
  }

  Napi::Value GroupSetContainer(const Napi::CallbackInfo& info) {
    const Args args(info, "BlockingQueue.groupSetContainer");
    const int group = args.Descriptor(0, "groupFd");
    const int container = args.Descriptor(1, "containerFd");
    const std::string subject = args.Text(2, "subject");
    return Run<None>(info, "VFIO_GROUP_SET_CONTAINER", subject,
                     [=] { return SetGroupContainer(group, container, subject); });
  }

  Napi::Value GroupGetDevice(const Napi::CallbackInfo& info) {
    const Args args(info, "BlockingQueue.groupGetDevice");
    const int group = args.Descriptor(0, "groupFd");
    const std::string name = args.Text(1, "name");
    return Run<UniqueFd>(info, "VFIO_GROUP_GET_DEVICE_FD", name.substr(0, name.find(' ')),
                         [=] { return GetGroupDevice(group, name); });
  }

  Napi::Value Pread(const Napi::CallbackInfo& info) {
    const Args args(info, "BlockingQueue.pread");
    const int fd = args.Descriptor(0, "fd");
    const uint64_t offset = args.Uint64(1, "offset", INT64_MAX - kMaxTransfer);
    const auto length = static_cast<size_t>(args.Integer(2, "length", 0, kMaxTransfer));
    const std::string subject = args.Text(3, "subject");
    return Run<std::vector<uint8_t>>(info, "pread", subject,
                                     [=] { return ReadAt(fd, offset, length, subject); });
  }

  Napi::Value Pwrite(const Napi::CallbackInfo& info) {
    const Args args(info, "BlockingQueue.pwrite");
    const int fd = args.Descriptor(0, "fd");
    const uint64_t offset = args.Uint64(1, "offset", INT64_MAX - kMaxTransfer);
    const auto data = std::make_shared<const std::vector<uint8_t>>(args.Bytes(2, "data"));
    const std::string subject = args.Text(3, "subject");
    return Run<size_t>(info, "pwrite", subject,
                       [=] { return WriteAt(fd, offset, data->data(), data->size(), subject); });
  }

  Napi::Value ReadProgramOf(const Napi::CallbackInfo& info) {
    const auto pid = static_cast<int>(Args(info, "BlockingQueue.program").Integer(0, "pid", 1, INT32_MAX));
    return Run<Program>(info, "open", "/proc/" + std::to_string(pid), [=] { return ReadProgram(pid); });
  }

  Napi::Value IsSameFile(const Napi::CallbackInfo& info) {
    const Args args(info, "BlockingQueue.isFile");
    const std::string path = args.Text(0, "path");
    const uint64_t device = args.Uint64(1, "device");
    const uint64_t inode = args.Uint64(2, "inode");
    return Run<bool>(info, "statx", path, [=] { return IsFile(path, device, inode); });
  }

  Napi::Value ReadFoldersOf(const Napi::CallbackInfo& info) {
    const Args args(info, "BlockingQueue.readFolders");
    const std::string parent = args.Text(0, "parent");
    const std::vector<std::string> folders = args.Paths(1, "folders", 4096);
    const std::vector<Entry> entries = args.Entries(2, "entries", 64);
    return Run<std::vector<uint8_t>>(info, "open", parent,
                                     [=] { return ReadFolders(parent, folders, entries); });
  }

  Napi::Value Finish(const Napi::CallbackInfo& info) {
    state_->closed = true;
    const Napi::Promise::Deferred deferred(info.Env());
    if (state_->pending == 0) {
      deferred.Resolve(info.Env().Null());
    } else {
      state_->waiting.push_back(deferred);
    }
    return deferred.Promise();
  }

 private:
  template <typename T>
  Napi::Value Run(const Napi::CallbackInfo& info, const char* operation, const std::string& subject,
                  typename Job<T>::Work work) {
    const Napi::Env env = info.Env();
    if (state_->closed) return Resolved<T>(env, MakeError(operation, 0, subject, "CLOSED"));
    const std::shared_ptr<QueueState> state = state_;
    state->pending++;
    return Job<T>::Start(env, &state->queue, std::move(work), [state, env] { state->Ended(env); });
  }

  std::shared_ptr<QueueState> state_;
};

}  // namespace

Napi::Function BlockingQueueClass(Napi::Env env) {
  return BlockingQueue::DefineClass(
      env, "BlockingQueue",
      {
          BlockingQueue::InstanceMethod<&BlockingQueue::Open>("open"),
          BlockingQueue::InstanceMethod<&BlockingQueue::Close>("close"),
          BlockingQueue::InstanceMethod<&BlockingQueue::CloseAll>("closeAll"),
          BlockingQueue::InstanceMethod<&BlockingQueue::Bind>("bindIommufd"),
          BlockingQueue::InstanceMethod<&BlockingQueue::RlimitMode>("iommufdSetRlimitMode"),
          BlockingQueue::InstanceMethod<&BlockingQueue::IommuInfo>("iommuInfo"),
          BlockingQueue::InstanceMethod<&BlockingQueue::DeviceInfo>("deviceInfo"),
          BlockingQueue::InstanceMethod<&BlockingQueue::RegionInfo>("regionInfo"),
          BlockingQueue::InstanceMethod<&BlockingQueue::IrqInfo>("irqInfo"),
          BlockingQueue::InstanceMethod<&BlockingQueue::HotResetInfo>("hotResetInfo"),
          BlockingQueue::InstanceMethod<&BlockingQueue::Reset>("reset"),
          BlockingQueue::InstanceMethod<&BlockingQueue::FeatureProbe>("featureProbe"),
          BlockingQueue::InstanceMethod<&BlockingQueue::MigrationFlags>("migrationFlags"),
          BlockingQueue::InstanceMethod<&BlockingQueue::DmaBufExport>("dmaBufExport"),
          BlockingQueue::InstanceMethod<&BlockingQueue::ContainerApiVersion>("containerApiVersion"),
          BlockingQueue::InstanceMethod<&BlockingQueue::ContainerCheckExtension>("containerCheckExtension"),
          BlockingQueue::InstanceMethod<&BlockingQueue::ContainerSetIommu>("containerSetIommu"),
          BlockingQueue::InstanceMethod<&BlockingQueue::GroupStatus>("groupStatus"),
          BlockingQueue::InstanceMethod<&BlockingQueue::GroupSetContainer>("groupSetContainer"),
          BlockingQueue::InstanceMethod<&BlockingQueue::GroupGetDevice>("groupGetDevice"),
          BlockingQueue::InstanceMethod<&BlockingQueue::Pread>("pread"),
          BlockingQueue::InstanceMethod<&BlockingQueue::Pwrite>("pwrite"),
          BlockingQueue::InstanceMethod<&BlockingQueue::ReadProgramOf>("program"),
          BlockingQueue::InstanceMethod<&BlockingQueue::IsSameFile>("isFile"),
          BlockingQueue::InstanceMethod<&BlockingQueue::ReadFoldersOf>("readFolders"),
          BlockingQueue::InstanceMethod<&BlockingQueue::Finish>("finish"),
      });
}

}  // namespace aperture
