// The whole surface of the addon, in the order of src/native.ts.
#include <napi.h>

#include "js/addon_data.h"
#include "js/calls.h"
#include "js/mapping_js.h"
#include "js/poller_js.h"
#include "js/queue.h"

namespace {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  using namespace aperture;
  auto* data = new AddonData();
  data->dispatcher = Dispatcher::Create(env);
  data->mapping_constructor = Napi::Persistent(MappingClass(env));
  env.SetInstanceData(data);

  const auto function = [&](const char* name, Napi::Value (*call)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, call, name));
  };
  exports.Set("BlockingQueue", BlockingQueueClass(env));
  exports.Set("Poller", PollerClass(env));
  function("mapRegion", MapRegionJs);
  function("listenUnix", ListenUnixJs);
  function("unlinkSocket", UnlinkSocketJs);
  function("connectSeqpacket", ConnectSeqpacketJs);
  function("connectStream", ConnectStreamJs);
  function("peerCredentials", PeerCredentialsJs);
  function("peerGroups", PeerGroupsJs);
  function("isAlive", IsAliveJs);
  function("pidfdOpen", PidfdOpenJs);
  function("pidfdInode", PidfdInodeJs);
  function("sendFrame", SendFrameJs);
  function("receiveFrame", ReceiveFrameJs);
  function("onReadable", OnReadableJs);
  function("memfdCreate", MemfdCreateJs);
  function("reopen", ReopenJs);
  function("memfdShared", MemfdSharedJs);
  function("eventfdCreate", EventfdCreateJs);
  function("closeDescriptor", CloseDescriptorJs);
  function("isWritable", IsWritableJs);
  function("duplicate", DuplicateJs);
  function("inherit", InheritJs);
  function("nofileLimit", NofileLimitJs);
  function("raiseMemlock", RaiseMemlockJs);
  function("ueventsOpen", UeventsOpenJs);
  function("ueventsReceive", UeventsReceiveJs);
  function("inotifyCreate", InotifyCreateJs);
  function("inotifyWatch", InotifyWatchJs);
  function("inotifyRead", InotifyReadJs);
  return exports;
}

}  // namespace

NODE_API_MODULE(aperture, Init)
