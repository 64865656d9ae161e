#include "js/calls.h"

#include <memory>

#include "js/convert.h"
#include "js/loop_call.h"
#include "js/loop_poll.h"
#include "sys/abi_socket.h"
#include "sys/descriptor.h"
#include "sys/inotify.h"
#include "sys/listen_unix.h"
#include "sys/memfd.h"
#include "sys/memlock.h"
#include "sys/pidfd.h"
#include "sys/scm.h"
#include "sys/socket.h"
#include "sys/uevent.h"

namespace aperture {

namespace {

// The longest frame that receiveFrame() makes room for; the protocol's longest is 1,328 bytes.
constexpr int64_t kMaxFrame = 64 * 1024;

template <typename T>
Napi::Value Return(const Napi::CallbackInfo& info, Result<T> result) {
  return ResultToJs(info.Env(), result);
}

// One wait for a descriptor. It watches a duplicate: libuv refuses a second handle for one number, and must
// not be left with one that somebody has closed.
struct ReadableWatch {
  UniqueFd fd;
  std::unique_ptr<LoopPoll> poll;
  Napi::FunctionReference callback;

  // Ends the wait; the callback comes back, for the one who wants to call it.
  Napi::Function Stop(Napi::Env env) {
    if (poll == nullptr) return Napi::Function(env, nullptr);
    poll.reset();
    fd.reset();
    const Napi::Function function = callback.Value();
    callback.Reset();
    return function;
  }
};

}  // namespace

Napi::Value ListenUnixJs(const Napi::CallbackInfo& info) {
  const Args args(info, "listenUnix");
  const std::string type = args.Text(0, "type");
  if (type != "stream" && type != "seqpacket") args.RangeFault(0, "type", "\"stream\" or \"seqpacket\"");
  const std::string directory = args.Text(1, "directory");
  const std::string name = args.FileName(2, "name");
  const auto mode = static_cast<uint32_t>(args.Integer(3, "mode", 0, 0777));
  const int64_t gid = args.Integer(4, "gid", -1, UINT32_MAX - 1);
  const int backlog = static_cast<int>(args.Integer(5, "backlog", 1, INT32_MAX));
  const int socket_type = type == "stream" ? SOCK_STREAM : SOCK_SEQPACKET;
  return Return(info, ListenUnix(socket_type, directory, name, mode, gid, backlog));
}

Napi::Value UnlinkSocketJs(const Napi::CallbackInfo& info) {
  const Args args(info, "unlinkSocket");
  const std::string directory = args.Text(0, "directory");
  const std::string name = args.FileName(1, "name");
  return Return(info, UnlinkSocket(directory, name, args.Uint64(2, "inode")));
}

Napi::Value ConnectSeqpacketJs(const Napi::CallbackInfo& info) {
  return Return(info, ConnectUnix(SOCK_SEQPACKET, Args(info, "connectSeqpacket").Text(0, "path")));
}

Napi::Value ConnectStreamJs(const Napi::CallbackInfo& info) {
  return Return(info, ConnectUnix(SOCK_STREAM, Args(info, "connectStream").Text(0, "path")));
}

Napi::Value PeerCredentialsJs(const Napi::CallbackInfo& info) {
  return Return(info, PeerOf(Args(info, "peerCredentials").Descriptor(0, "fd")));
}

Napi::Value PeerGroupsJs(const Napi::CallbackInfo& info) {
  const Args args(info, "peerGroups");
  const int fd = args.Descriptor(0, "fd");
  const auto most = static_cast<size_t>(args.Integer(1, "most", 1, 65536));
  return Return(info, PeerGroups(fd, most));
}

Napi::Value IsAliveJs(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), IsAlive(Args(info, "isAlive").Descriptor(0, "pidfd")));
}

Napi::Value PidfdOpenJs(const Napi::CallbackInfo& info) {
  return Return(info, OpenPidfd(static_cast<int>(Args(info, "pidfdOpen").Integer(0, "pid", 1, INT32_MAX))));
}

Napi::Value PidfdInodeJs(const Napi::CallbackInfo& info) {
  const std::optional<uint64_t> inode = PidfdInode(Args(info, "pidfdInode").Descriptor(0, "pidfd"));
  if (!inode.has_value()) return info.Env().Null();
  return Napi::BigInt::New(info.Env(), *inode);
}

Napi::Value SendFrameJs(const Napi::CallbackInfo& info) {
  const Args args(info, "sendFrame");
  const int fd = args.Descriptor(0, "fd");
  const std::vector<uint8_t> frame = args.Bytes(1, "frame");
  // An empty message cannot be told from the end of the connection by most receivers.
  if (frame.empty()) args.RangeFault(1, "frame", "at least one byte");
  const std::vector<int> descriptors = args.Descriptors(2, "descriptors", kScmMaxDescriptors);
  const int failed = SendFrame(fd, frame.data(), frame.size(), descriptors.data(), descriptors.size());
  if (failed == 0) return Return<None>(info, None());
  return Return<None>(info, MakeError("sendmsg", failed, "descriptor " + std::to_string(fd)));
}

Napi::Value ReceiveFrameJs(const Napi::CallbackInfo& info) {
  const Args args(info, "receiveFrame");
  const int fd = args.Descriptor(0, "fd");
  const auto max_frame = static_cast<size_t>(args.Integer(1, "maxFrame", 1, kMaxFrame));
  const auto most = static_cast<size_t>(args.Integer(2, "maxDescriptors", 0, kScmMaxDescriptors));
  return Return(info, ReceiveFrame(fd, max_frame, most));
}

Napi::Value OnReadableJs(const Napi::CallbackInfo& info) {
  const Args args(info, "onReadable");
  const Napi::Env env = info.Env();
  const int fd = args.Descriptor(0, "fd");
  auto watch = std::make_shared<ReadableWatch>();
  const Napi::Function callback = args.Function(1, "callback");
  Result<UniqueFd> copy = Duplicate(fd);
  if (!copy.ok())
    throw Napi::Error::New(env, "onReadable: " + copy.error().subject + ": " + copy.error().code);
  watch->fd = std::move(copy.value());
  watch->callback = Napi::Persistent(callback);
  watch->poll = std::make_unique<LoopPoll>(env, watch->fd.get(), [watch, env] {
    const Napi::HandleScope scope(env);
    if (CanRunJs(env)) CallFromLoop(env, env.Global(), watch->Stop(env), {});
  });
  return Napi::Function::New(env, [watch](const Napi::CallbackInfo& cancel) { watch->Stop(cancel.Env()); });
}

Napi::Value MemfdCreateJs(const Napi::CallbackInfo& info) {
  const Args args(info, "memfdCreate");
  const std::string name = args.Text(0, "name");
  return Return(info, CreateMemfd(name, args.Uint64(1, "size", INT64_MAX)));
}

Napi::Value ReopenJs(const Napi::CallbackInfo& info) {
  const Args args(info, "reopen");
  const int fd = args.Descriptor(0, "fd");
  return Return(info, Reopen(fd, args.Access(1, "access")));
}

Napi::Value MemfdSharedJs(const Napi::CallbackInfo& info) {
  return Return(info, IsMemfdShared(Args(info, "memfdShared").Descriptor(0, "fd")));
}

Napi::Value EventfdCreateJs(const Napi::CallbackInfo& info) {
  return Return(info, CreateEventfd());
}

Napi::Value CloseDescriptorJs(const Napi::CallbackInfo& info) {
  return Return(info, CloseDescriptor(Args(info, "closeDescriptor").Descriptor(0, "fd")));
}

Napi::Value IsWritableJs(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), IsWritable(Args(info, "isWritable").Descriptor(0, "fd")));
}

Napi::Value DuplicateJs(const Napi::CallbackInfo& info) {
  return Return(info, Duplicate(Args(info, "duplicate").Descriptor(0, "fd")));
}

Napi::Value InheritJs(const Napi::CallbackInfo& info) {
  return Return(info, ClearCloseOnExec(Args(info, "inherit").Descriptor(0, "fd")));
}

Napi::Value NofileLimitJs(const Napi::CallbackInfo& info) {
  return Return(info, NofileLimit());
}

Napi::Value RaiseMemlockJs(const Napi::CallbackInfo& info) {
  return Return(info, RaiseMemlock(Args(info, "raiseMemlock").Uint64(0, "bytes")));
}

Napi::Value UeventsOpenJs(const Napi::CallbackInfo& info) {
  return Return(info, OpenUevents());
}

Napi::Value UeventsReceiveJs(const Napi::CallbackInfo& info) {
  return Return(info, ReceiveUevents(Args(info, "ueventsReceive").Descriptor(0, "fd")));
}

Napi::Value InotifyCreateJs(const Napi::CallbackInfo& info) {
  return Return(info, CreateInotify());
}

Napi::Value InotifyWatchJs(const Napi::CallbackInfo& info) {
  const Args args(info, "inotifyWatch");
  const int fd = args.Descriptor(0, "fd");
  return Return(info, WatchFile(fd, args.Text(1, "path")));
}

Napi::Value InotifyReadJs(const Napi::CallbackInfo& info) {
  return Return(info, ReadFileEvents(Args(info, "inotifyRead").Descriptor(0, "fd")));
}

}  // namespace aperture
