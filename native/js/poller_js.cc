#include "js/poller_js.h"

#include <memory>
#include <optional>

#include "js/convert.h"
#include "js/loop_call.h"
#include "js/loop_poll.h"
#include "sys/poller.h"
#include "sys/workers.h"

namespace aperture {

namespace {

// A typed array over one member of the shared buffers. Each keeps all of them alive: a script that transfers
// one away or holds it after close() reads old bytes, never freed ones.
template <typename Array>
Array View(Napi::Env env, const std::shared_ptr<PollerBuffers>& buffers, void* member, size_t bytes) {
  auto* holder = new std::shared_ptr<PollerBuffers>(buffers);
  const Napi::ArrayBuffer memory = Napi::ArrayBuffer::New(
      env, member, bytes, [](Napi::Env, void*, std::shared_ptr<PollerBuffers>* hint) { delete hint; },
      holder);
  return Array::New(env, bytes / sizeof(typename std::remove_pointer_t<decltype(Array().Data())>), memory, 0);
}

class PollerJs : public Napi::ObjectWrap<PollerJs> {
 public:
  explicit PollerJs(const Napi::CallbackInfo& info) : Napi::ObjectWrap<PollerJs>(info) {
    const Napi::Env env = info.Env();
    const Napi::Function callback = Args(info, "Poller").Function(0, "onBatch");
    auto buffers = std::make_shared<PollerBuffers>();
    Result<std::unique_ptr<Poller>> made = Poller::Create(buffers);
    if (!made.ok()) {
      const SysError& error = made.error();
      throw Napi::Error::New(env, "Poller: " + error.operation + ": " + error.code);
    }
    poller_ = std::move(made.value());
    loop_ = std::make_unique<LoopPoll>(env, poller_->descriptor(), [this] { OnReady(); });
    callback_ = Napi::Persistent(callback);
    DefineConstants(info.This().As<Napi::Object>(), buffers);
    // An open Poller must outlive the last variable that names it: only close() lets it go.
    Ref();
  }

  Napi::Value AddListener(const Napi::CallbackInfo& info) {
    const Args args(info, "Poller.addListener");
    const int fd = args.Descriptor(0, "fd");
    const int32_t id = Id(args, 1);
    return Call(info, "Poller.addListener", id, [&] { return poller_->AddListener(fd, id); });
  }

  Napi::Value AddChannel(const Napi::CallbackInfo& info) {
    const Args args(info, "Poller.addChannel");
    const int fd = args.Descriptor(0, "fd");
    const int32_t id = Id(args, 1);
    const auto pid = static_cast<int32_t>(args.Integer(2, "pid", 0, INT32_MAX));
    const uint32_t uid = args.Uint32(3, "uid");
    const int pidfd = static_cast<int>(args.Integer(4, "pidfd", -1, INT32_MAX));
    return Call(info, "Poller.addChannel", id, [&] { return poller_->AddChannel(fd, id, pid, uid, pidfd); });
  }

  Napi::Value WatchExit(const Napi::CallbackInfo& info) {
    const Args args(info, "Poller.watchExit");
    const int pidfd = args.Descriptor(0, "pidfd");
    const int32_t id = Id(args, 1);
    return Call(info, "Poller.watchExit", id, [&] { return poller_->WatchExit(pidfd, id); });
  }

  Napi::Value WatchEventfd(const Napi::CallbackInfo& info) {
    const Args args(info, "Poller.watchEventfd");
    const int fd = args.Descriptor(0, "fd");
    const int32_t id = Id(args, 1);
    return Call(info, "Poller.watchEventfd", id, [&] { return poller_->WatchEventfd(fd, id); });
  }

  Napi::Value WatchReadable(const Napi::CallbackInfo& info) {
    const Args args(info, "Poller.watchReadable");
    const int fd = args.Descriptor(0, "fd");
    const int32_t id = Id(args, 1);
    return Call(info, "Poller.watchReadable", id, [&] { return poller_->WatchReadable(fd, id); });
  }

  Napi::Value Remove(const Napi::CallbackInfo& info) {
    const int32_t id = Id(Args(info, "Poller.remove"), 0);
    if (poller_ != nullptr) poller_->Remove(id);
    return info.Env().Null();
  }

  Napi::Value Flush(const Napi::CallbackInfo& info) {
    const Args args(info, "Poller.flush");
    const int count = static_cast<int>(args.Integer(0, "count", 0, kPollBatch));
    if (poller_ == nullptr) throw Napi::Error::New(info.Env(), "Poller.flush: the poller is closed");
    poller_->Flush(count);
    return info.Env().Null();
  }

  Napi::Value SetRef(const Napi::CallbackInfo& info) {
    const bool alive = Args(info, "Poller.ref").Boolean(0, "alive");
    if (loop_ != nullptr) loop_->Ref(alive);
    return info.Env().Null();
  }

  Napi::Value Close(const Napi::CallbackInfo& info) {
    if (poller_ == nullptr) return info.Env().Null();
    loop_->Stop();
    poller_->RemoveAll();
    // While a batch is being read, its rows are still the caller's.
    poller_.reset();
    callback_.Reset();
    Unref();
    return info.Env().Null();
  }

 private:
  static int32_t Id(const Args& args, size_t index) {
    return static_cast<int32_t>(args.Integer(index, "id", 0, INT32_MAX));
  }

  template <typename Add>
  Napi::Value Call(const Napi::CallbackInfo& info, const char* operation, int32_t id, Add add) {
    Result<None> result = poller_ != nullptr
                              ? add()
                              : Result<None>(MakeError(operation, 0, "id " + std::to_string(id), "CLOSED"));
    return ResultToJs(info.Env(), result);
  }

  void DefineConstants(Napi::Object self, const std::shared_ptr<PollerBuffers>& memory) {
    const Napi::Env env = self.Env();
    Napi::Object buffers = Napi::Object::New(env);
    buffers.Set("rows", View<Napi::Int32Array>(env, memory, memory->rows, sizeof(memory->rows)));
    buffers.Set("frames", View<Napi::Uint8Array>(env, memory, memory->frames, sizeof(memory->frames)));
    buffers.Set("out", View<Napi::Int32Array>(env, memory, memory->out, sizeof(memory->out)));
    buffers.Set("outFrames",
                View<Napi::Uint8Array>(env, memory, memory->out_frames, sizeof(memory->out_frames)));
    buffers.Set("outDescriptors", View<Napi::Int32Array>(env, memory, memory->out_descriptors,
                                                         sizeof(memory->out_descriptors)));
    buffers.Freeze();
    self.DefineProperties({
        Napi::PropertyDescriptor::Value("buffers", buffers, napi_enumerable),
        Napi::PropertyDescriptor::Value("batchSize", Napi::Number::New(env, kPollBatch), napi_enumerable),
        Napi::PropertyDescriptor::Value("frameBytes", Napi::Number::New(env, kPollFrameBytes),
                                        napi_enumerable),
        Napi::PropertyDescriptor::Value("maxDescriptors", Napi::Number::New(env, kPollDescriptors),
                                        napi_enumerable),
    });
  }

  // One batch a wake-up: the loop comes back at once when there is more, and other handles get their turn in
  // between.
  void OnReady() {
    const Napi::Env env = Env();
    const Napi::HandleScope scope(env);
    if (!CanRunJs(env)) return;
    // close() in the callback gives up the reference that keeps this object alive.
    const Napi::Object self = Value();
    const int count = poller_->Collect();
    // Many frames are acknowledgements, after each of which copies are closed on a thread.
    const Burst burst;
    if (count > 0) CallFromLoop(env, self, callback_.Value(), {Napi::Number::New(env, count)});
    if (poller_ != nullptr) poller_->EndBatch();
  }

  std::unique_ptr<Poller> poller_;
  std::unique_ptr<LoopPoll> loop_;
  Napi::FunctionReference callback_;
};

}  // namespace

Napi::Function PollerClass(Napi::Env env) {
  return PollerJs::DefineClass(env, "Poller",
                               {
                                   PollerJs::InstanceMethod<&PollerJs::AddListener>("addListener"),
                                   PollerJs::InstanceMethod<&PollerJs::AddChannel>("addChannel"),
                                   PollerJs::InstanceMethod<&PollerJs::WatchExit>("watchExit"),
                                   PollerJs::InstanceMethod<&PollerJs::WatchEventfd>("watchEventfd"),
                                   PollerJs::InstanceMethod<&PollerJs::WatchReadable>("watchReadable"),
                                   PollerJs::InstanceMethod<&PollerJs::Remove>("remove"),
                                   PollerJs::InstanceMethod<&PollerJs::Flush>("flush"),
                                   PollerJs::InstanceMethod<&PollerJs::SetRef>("ref"),
                                   PollerJs::InstanceMethod<&PollerJs::Close>("close"),
                               });
}

}  // namespace aperture
