#include "sys/vfio.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "sys/abi_vfio.h"

namespace aperture {

namespace {

// One area is 16 bytes: 256 hold a chain of every capability that mainline drivers send, so that one ioctl is
// enough.
constexpr uint32_t kFirstArgsz = 256;
// A table of 4,000 areas. A driver that wants more is not describing a PCI BAR.
constexpr uint32_t kLargestArgsz = 64 * 1024;
constexpr int kRegionRounds = 3;

std::string RegionSubject(const std::string& subject, uint32_t index) {
  return subject + " region " + std::to_string(index);
}

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

bool ParseUuid(const std::string& text, Uuid* out) {
  if (text.size() != 36) return false;
  size_t at = 0;
  for (size_t i = 0; i < out->size(); i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) {
      if (text[at++] != '-') return false;
    }
    const int high = HexValue(text[at]);
    const int low = HexValue(text[at + 1]);
    if (high < 0 || low < 0) return false;
    (*out)[i] = static_cast<uint8_t>(high << 4 | low);
    at += 2;
  }
  return true;
}

Result<uint32_t> BindIommufd(int device, int iommufd, const Uuid* token, const std::string& subject) {
  vfio::BindIommufd bind = {};
  // Without a token argsz stops before token_uuid_ptr: that is the struct of 6.6 to 6.16. With one, those
  // kernels answer EINVAL, which is right: they would bind without looking at the token.
  bind.argsz = token == nullptr ? offsetof(vfio::BindIommufd, token_uuid_ptr) : sizeof(bind);
  bind.iommufd = iommufd;
  if (token != nullptr) {
    bind.flags = vfio::kBindFlagToken;
    bind.token_uuid_ptr = reinterpret_cast<uintptr_t>(token->data());
  }
  if (ioctl(device, vfio::kDeviceBindIommufd, &bind) < 0)
    return MakeError("VFIO_DEVICE_BIND_IOMMUFD", errno, subject);
  return bind.out_devid;
}

Result<DeviceFacts> GetDeviceInfo(int device, const std::string& subject) {
  vfio::DeviceInfo info = {};
  info.argsz = sizeof(info);
  if (ioctl(device, vfio::kDeviceGetInfo, &info) < 0)
    return MakeError("VFIO_DEVICE_GET_INFO", errno, subject);
  return DeviceFacts{info.flags, info.num_regions, info.num_irqs};
}

Result<RegionFacts> QueryRegion(const AskRegion& ask, uint32_t index, const std::string& subject) {
  const char* const operation = "VFIO_DEVICE_GET_REGION_INFO";
  const std::string about = RegionSubject(subject, index);
  uint32_t argsz = kFirstArgsz;
  for (int round = 0; round < kRegionRounds; round++) {
    std::vector<uint8_t> buffer(argsz);
    vfio::RegionInfo info = {};
    info.argsz = argsz;
    info.index = index;
    memcpy(buffer.data(), &info, sizeof(info));
    const int failed = ask(buffer.data());
    if (failed != 0) return MakeError(operation, failed, about);
    memcpy(&info, buffer.data(), sizeof(info));
    if (info.index != index)
      return MakeError(operation, 0, about + ": another index came back", "BAD_ANSWER");
    // A chain that did not fit is success with argsz rewritten to what it needs and cap_offset 0.
    if (info.argsz > kLargestArgsz) break;
    if (info.argsz > argsz) {
      argsz = info.argsz;
      continue;
    }
    RegionFacts facts = {info.index, info.flags, info.size, info.offset, {}};
    if ((info.flags & vfio::kRegionFlagCaps) == 0) return facts;
    const char* fault =
        WalkRegionCaps(buffer.data(), std::min(info.argsz, argsz), info.cap_offset, &facts.caps);
    if (fault != nullptr) return MakeError(operation, 0, about + ": " + fault, "BAD_CAPABILITY_CHAIN");
    return facts;
  }
  return MakeError(operation, 0, about + ": argsz keeps growing", "BAD_ANSWER");
}

Result<RegionFacts> GetRegionInfo(int device, uint32_t index, const std::string& subject) {
  const AskRegion ask = [device](void* buffer) {
    return ioctl(device, vfio::kDeviceGetRegionInfo, buffer) < 0 ? errno : 0;
  };
  return QueryRegion(ask, index, subject);
}

Result<IrqFacts> GetIrqInfo(int device, uint32_t index, const std::string& subject) {
  vfio::IrqInfo info = {};
  info.argsz = sizeof(info);
  info.index = index;
  if (ioctl(device, vfio::kDeviceGetIrqInfo, &info) < 0)
    return MakeError("VFIO_DEVICE_GET_IRQ_INFO", errno, subject + " irq " + std::to_string(index));
  return IrqFacts{info.index, info.flags, info.count};
}

Result<None> ResetDevice(int device, const std::string& subject) {
  if (ioctl(device, vfio::kDeviceReset) < 0) return MakeError("VFIO_DEVICE_RESET", errno, subject);
  return None();
}

Result<bool> ProbeFeature(int device, uint32_t feature, bool set, const std::string& subject) {
  vfio::Feature probe = {};
  probe.argsz = sizeof(probe);
  probe.flags =
      (feature & vfio::kFeatureMask) | vfio::kFeatureProbe | (set ? vfio::kFeatureSet : vfio::kFeatureGet);
  if (ioctl(device, vfio::kDeviceFeature, &probe) == 0) return true;
  // ENOTTY is the only answer that means "no such feature": the driver's feature switch falls through to it.
  if (errno == ENOTTY) return false;
  return MakeError("VFIO_DEVICE_FEATURE", errno, subject + " feature " + std::to_string(feature));
}

Result<MigrationFacts> GetMigration(int device, const std::string& subject) {
  struct {
    vfio::Feature feature;
    vfio::Migration migration;
  } request = {};
  static_assert(sizeof(request) == 16, "the kernel writes the second part behind the first");
  request.feature.argsz = sizeof(request);
  request.feature.flags = vfio::kFeatureMigration | vfio::kFeatureGet;
  if (ioctl(device, vfio::kDeviceFeature, &request) == 0) return MigrationFacts{request.migration.flags};
  if (errno == ENOTTY) return MigrationFacts{0};
  return MakeError("VFIO_DEVICE_FEATURE_MIGRATION", errno, subject);
}

Result<UniqueFd> ExportDmaBuf(int device, uint32_t region, uint64_t offset, uint64_t length,
                              const std::string& subject) {
  struct {
    vfio::Feature feature;
    vfio::DmaBuf dma_buf;
    vfio::DmaBufRange range;
  } request = {};
  static_assert(sizeof(request) == 40, "the kernel reads the three parts back to back");
  request.feature.argsz = sizeof(request);
  request.feature.flags = vfio::kFeatureDmaBuf | vfio::kFeatureGet;
  request.dma_buf.region_index = region;
  request.dma_buf.open_flags = O_RDWR | O_CLOEXEC;
  request.dma_buf.nr_ranges = 1;
  request.range = {offset, length};
  const int fd = ioctl(device, vfio::kDeviceFeature, &request);
  if (fd < 0) return MakeError("VFIO_DEVICE_FEATURE_DMA_BUF", errno, RegionSubject(subject, region));
  return UniqueFd(fd);
}

Result<int> GetContainerApiVersion(int container) {
  const int version = ioctl(container, vfio::kGetApiVersion);
  if (version < 0) return MakeError("VFIO_GET_API_VERSION", errno, "container");
  return version;
}

Result<bool> CheckContainerExtension(int container, uint32_t extension) {
  // The argument of these two requests is the number itself, not a pointer to it.
  const int answer = ioctl(container, vfio::kCheckExtension, static_cast<unsigned long>(extension));
  if (answer < 0) return MakeError("VFIO_CHECK_EXTENSION", errno, "extension " + std::to_string(extension));
  return answer > 0;
}

Result<None> SetContainerIommu(int container, uint32_t type) {
  if (ioctl(container, vfio::kSetIommu, static_cast<unsigned long>(type)) < 0)
    return MakeError("VFIO_SET_IOMMU", errno, "type " + std::to_string(type));
  return None();
}

Result<uint32_t> GetGroupStatus(int group, const std::string& subject) {
  vfio::GroupStatus status = {};
  status.argsz = sizeof(status);
  if (ioctl(group, vfio::kGroupGetStatus, &status) < 0)
    return MakeError("VFIO_GROUP_GET_STATUS", errno, subject);
  return status.flags;
}

Result<None> SetGroupContainer(int group, int container, const std::string& subject) {
  if (ioctl(group, vfio::kGroupSetContainer, &container) < 0)
    return MakeError("VFIO_GROUP_SET_CONTAINER", errno, subject);
  return None();
}

Result<UniqueFd> GetGroupDevice(int group, const std::string& name) {
  // The kernel makes this descriptor O_CLOEXEC by itself (drivers/vfio/group.c, since 3.6).
  const int fd = ioctl(group, vfio::kGroupGetDeviceFd, name.c_str());
  if (fd < 0) {
    const int failed = errno;
    // What follows the address is the VF token: a secret, which must not get into a log.
    return MakeError("VFIO_GROUP_GET_DEVICE_FD", failed, name.substr(0, name.find(' ')));
  }
  return UniqueFd(fd);
}

}  // namespace aperture
