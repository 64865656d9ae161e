#include "js/mapping_js.h"

#include <utility>
#include <vector>

#include "js/addon_data.h"
#include "js/convert.h"
#include "js/job.h"
#include "sys/descriptor.h"
#include "sys/mapping.h"
#include "sys/serial_queue.h"

namespace aperture {

// Shared by the Mapping object, its pending operations and its views; the last of them to go ends the
// mapping. Taking a device's last mapping away can block as long as closing the device (it may reset it), so
// that happens on the queue's thread even when the garbage collector is what lets go.
struct MappingState {
  explicit MappingState(const std::string& name) : queue(name) {}
  ~MappingState() {
    if (mapping == nullptr || unmapped) return;
    std::unique_ptr<Task> task(new Drop(std::move(mapping)));
    // Without a thread it happens here, when `task` goes.
    static_cast<void>(queue.Push(task));
  }

  SerialQueue queue;
  std::shared_ptr<Mapping> mapping;
  // Set on the queue's thread, read when nothing runs there any more.
  bool unmapped = false;

 private:
  class Drop final : public Task {
   public:
    explicit Drop(std::shared_ptr<Mapping> held) : held_(std::move(held)) {}
    void Run(std::unique_ptr<Task>) override { held_.reset(); }

   private:
    std::shared_ptr<Mapping> held_;
  };
};

namespace {

using StatePointer = std::shared_ptr<MappingState>;

// Node makes an ArrayBuffer of external memory through its Buffer, whose largest size this is on Node 20.
constexpr int64_t kMaxView = int64_t{1} << 32;

class MappingJs : public Napi::ObjectWrap<MappingJs> {
 public:
  explicit MappingJs(const Napi::CallbackInfo& info) : Napi::ObjectWrap<MappingJs>(info) {
    state_ = std::exchange(AddonData::Of(info.Env())->new_mapping, nullptr);
    if (state_ == nullptr) throw Napi::TypeError::New(info.Env(), "Mapping: made by mapRegion only");
    size_ = state_->mapping->size();
  }

  Napi::Value Size(const Napi::CallbackInfo& info) { return Napi::BigInt::New(info.Env(), size_); }

  Napi::Value Read(const Napi::CallbackInfo& info) {
    const Args args(info, "Mapping.read");
    const uint64_t offset = args.Uint64(0, "offset", size_);
    const auto length = static_cast<size_t>(args.Integer(1, "length", 0, kMaxTransfer));
    if (length > size_ - offset) args.RangeFault(1, "length", WithinSize());
    const StatePointer state = state_;
    return Run<std::vector<uint8_t>>(info, "read of mapping",
                                     [=] { return state->mapping->Read(offset, length); });
  }

  Napi::Value Write(const Napi::CallbackInfo& info) {
    const Args args(info, "Mapping.write");
    const uint64_t offset = args.Uint64(0, "offset", size_);
    const auto data = std::make_shared<const std::vector<uint8_t>>(args.Bytes(1, "data"));
    if (data->size() > size_ - offset) args.RangeFault(1, "data", WithinSize());
    const StatePointer state = state_;
    return Run<None>(info, "write to mapping", [=] { return state->mapping->Write(offset, *data); });
  }

  Napi::Value View(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Args args(info, "Mapping.view");
    const uint64_t offset = args.Uint64(0, "offset", size_);
    const auto length = static_cast<size_t>(args.Integer(1, "length", 1, kMaxView));
    if (state_ == nullptr) {
      Napi::Error error = Napi::Error::New(env, "Mapping.view: the mapping is closed");
      error.Set("code", "CLOSED");
      throw error;
    }
    if (!state_->mapping->InOneArea(offset, length)) args.RangeFault(1, "length", "a range inside one area");
    auto holder = std::make_unique<StatePointer>(state_);
    const Napi::ArrayBuffer view = Napi::ArrayBuffer::New(
        env, state_->mapping->reservation()->base() + offset, length,
        [](Napi::Env, void*, StatePointer* hint) { delete hint; }, holder.get());
    static_cast<void>(holder.release());
    ForgetDeadViews();
    views_.push_back(Napi::Weak(view));
    return view;
  }

  Napi::Value Close(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (closing_.IsEmpty()) {
      DetachViews();
      // From here on views alone keep the addresses, and only as long as V8 has not let go of their memory: a
      // buffer that was moved out of our reach (ArrayBuffer.transfer) then faults and does not read what
      // comes there next.
      const StatePointer state = std::exchange(state_, nullptr);
      const Napi::Value promise = Job<None>::Start(
          env, &state->queue,
          [state] {
            Result<None> result = state->mapping->Unmap();
            state->unmapped = result.ok();
            return result;
          },
          nullptr);
      closing_ = Napi::Persistent(promise.As<Napi::Object>());
    }
    return closing_.Value();
  }

 private:
  std::string WithinSize() const {
    return "a range within the " + std::to_string(size_) + " bytes of the mapping";
  }

  template <typename T>
  Napi::Value Run(const Napi::CallbackInfo& info, const char* operation, typename Job<T>::Work work) {
    if (state_ == nullptr) return Resolved<T>(info.Env(), MakeError(operation, 0, "mapping", "CLOSED"));
    return Job<T>::Start(info.Env(), &state_->queue, std::move(work), nullptr);
  }

  void ForgetDeadViews() {
    std::vector<Napi::Reference<Napi::ArrayBuffer>> alive;
    for (Napi::Reference<Napi::ArrayBuffer>& view : views_) {
      if (!view.Value().IsEmpty()) alive.push_back(std::move(view));
    }
    views_ = std::move(alive);
  }

  void DetachViews() {
    for (const Napi::Reference<Napi::ArrayBuffer>& reference : views_) {
      Napi::ArrayBuffer view = reference.Value();
      if (!view.IsEmpty() && !view.IsDetached()) view.Detach();
    }
    views_.clear();
  }

  StatePointer state_;
  uint64_t size_ = 0;
  std::vector<Napi::Reference<Napi::ArrayBuffer>> views_;
  Napi::ObjectReference closing_;
};

}  // namespace

// Found by ResultToJs through its argument's namespace, so not in an anonymous one.
static Napi::Value ToJs(Napi::Env env, StatePointer& state) {
  AddonData* data = AddonData::Of(env);
  data->new_mapping = std::move(state);
  return data->mapping_constructor.New({});
}

Napi::Value MapRegionJs(const Napi::CallbackInfo& info) {
  const Args args(info, "mapRegion");
  const int fd = args.Descriptor(0, "fd");
  const uint64_t fd_offset = args.Uint64(1, "fdOffset", INT64_MAX);
  const uint64_t size = args.Uint64(2, "size", INT64_MAX);
  const std::vector<RegionArea> areas = args.Areas(3, "areas");
  const bool write = args.Boolean(4, "write");
  const std::string subject = args.Text(5, "subject");
  auto state = std::make_shared<MappingState>("aperture-map");
  // A copy: mmap() happens later, on the thread, and by then the caller may have closed its own.
  Result<UniqueFd> copied = Duplicate(fd);
  if (!copied.ok()) return Resolved<StatePointer>(info.Env(), copied.error());
  const auto copy = std::make_shared<UniqueFd>(std::move(copied.value()));
  return Job<StatePointer>::Start(
      info.Env(), &state->queue,
      [=]() -> Result<StatePointer> {
        Result<std::shared_ptr<Mapping>> mapped =
            Mapping::Map(copy->get(), fd_offset, size, areas, write, subject);
        // The mapping holds the open file; the last close of a device must not fall to the JavaScript thread.
        copy->reset();
        if (!mapped.ok()) return mapped.error();
        state->mapping = std::move(mapped.value());
        return state;
      },
      nullptr);
}

Napi::Function MappingClass(Napi::Env env) {
  return MappingJs::DefineClass(env, "Mapping",
                                {
                                    MappingJs::InstanceAccessor<&MappingJs::Size>("size", napi_enumerable),
                                    MappingJs::InstanceMethod<&MappingJs::Read>("read"),
                                    MappingJs::InstanceMethod<&MappingJs::Write>("write"),
                                    MappingJs::InstanceMethod<&MappingJs::View>("view"),
                                    MappingJs::InstanceMethod<&MappingJs::Close>("close"),
                                });
}

}  // namespace aperture
