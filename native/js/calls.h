// The plain functions of the addon: one system call each, converted both ways.
#pragma once

#include <napi.h>

namespace aperture {

Napi::Value ListenUnixJs(const Napi::CallbackInfo& info);
Napi::Value UnlinkSocketJs(const Napi::CallbackInfo& info);
Napi::Value ConnectSeqpacketJs(const Napi::CallbackInfo& info);
Napi::Value ConnectStreamJs(const Napi::CallbackInfo& info);
Napi::Value PeerCredentialsJs(const Napi::CallbackInfo& info);
Napi::Value PeerGroupsJs(const Napi::CallbackInfo& info);
Napi::Value IsAliveJs(const Napi::CallbackInfo& info);
Napi::Value PidfdOpenJs(const Napi::CallbackInfo& info);
Napi::Value PidfdInodeJs(const Napi::CallbackInfo& info);
Napi::Value SendFrameJs(const Napi::CallbackInfo& info);
Napi::Value ReceiveFrameJs(const Napi::CallbackInfo& info);
Napi::Value OnReadableJs(const Napi::CallbackInfo& info);
Napi::Value MemfdCreateJs(const Napi::CallbackInfo& info);
Napi::Value ReopenJs(const Napi::CallbackInfo& info);
Napi::Value MemfdSharedJs(const Napi::CallbackInfo& info);
Napi::Value EventfdCreateJs(const Napi::CallbackInfo& info);
Napi::Value CloseDescriptorJs(const Napi::CallbackInfo& info);
Napi::Value IsWritableJs(const Napi::CallbackInfo& info);
Napi::Value DuplicateJs(const Napi::CallbackInfo& info);
Napi::Value InheritJs(const Napi::CallbackInfo& info);
Napi::Value NofileLimitJs(const Napi::CallbackInfo& info);
Napi::Value RaiseMemlockJs(const Napi::CallbackInfo& info);
Napi::Value UeventsOpenJs(const Napi::CallbackInfo& info);
Napi::Value UeventsReceiveJs(const Napi::CallbackInfo& info);
Napi::Value InotifyCreateJs(const Napi::CallbackInfo& info);
Napi::Value InotifyWatchJs(const Napi::CallbackInfo& info);
Napi::Value InotifyReadJs(const Napi::CallbackInfo& info);

}  // namespace aperture
