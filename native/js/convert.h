// Crossing the bridge, value by value. Going in, an argument of the wrong type or range is a programming
// fault and throws with the path to it ("Poller.addChannel argument 3 (pid): expected an integer"). Coming
// out, a failed system call is a value: { value, error }, both always there, null for none.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "sys/descriptor.h"
#include "sys/folder_scan.h"
#include "sys/hot_reset.h"
#include "sys/inotify.h"
#include "sys/iommufd.h"
#include "sys/listen_unix.h"
#include "sys/program.h"
#include "sys/result.h"
#include "sys/scm.h"
#include "sys/socket.h"
#include "sys/uevent.h"
#include "sys/unique_fd.h"
#include "sys/vfio.h"

namespace aperture {

// The most that one read, write or view may ask for. A BigInt-sized length is a fault, not a wish for memory.
constexpr int64_t kMaxTransfer = 64 * 1024 * 1024;

// The arguments of one call. Each getter names what it expects; the index is from 0, messages count from 1.
class Args {
 public:
  Args(const Napi::CallbackInfo& info, const char* call) : info_(info), call_(call) {}
  Napi::Env env() const { return info_.Env(); }

  int64_t Integer(size_t index, const char* name, int64_t low, int64_t high) const;
  int Descriptor(size_t index, const char* name) const;
  uint32_t Uint32(size_t index, const char* name) const;
  // bigint, lossless.
  uint64_t Uint64(size_t index, const char* name, uint64_t high = UINT64_MAX) const;
  bool Boolean(size_t index, const char* name) const;
  // No NUL inside: the kernel would see a shorter string than the checks before it.
  std::string Text(size_t index, const char* name) const;
  // A single component of a path.
  std::string FileName(size_t index, const char* name) const;
  enum Access Access(size_t index, const char* name) const;
  // A copy: the caller may change its own at once.
  std::vector<uint8_t> Bytes(size_t index, const char* name) const;
  std::vector<int> Descriptors(size_t index, const char* name, size_t most) const;
  std::vector<RegionArea> Areas(size_t index, const char* name) const;
  // Paths below a folder: no empty one, none with a NUL.
  std::vector<std::string> Paths(size_t index, const char* name, size_t most) const;
  std::vector<Entry> Entries(size_t index, const char* name, size_t most) const;
  Napi::Function Function(size_t index, const char* name) const;
  bool IsNull(size_t index) const { return info_[index].IsNull(); }

  [[noreturn]] void TypeFault(size_t index, const char* name, const std::string& expected) const;
  [[noreturn]] void RangeFault(size_t index, const char* name, const std::string& expected) const;

 private:
  std::string Where(size_t index, const char* name) const;

  const Napi::CallbackInfo& info_;
  const char* call_;
};

Napi::Value ToJs(Napi::Env env, None& value);
Napi::Value ToJs(Napi::Env env, bool& value);
Napi::Value ToJs(Napi::Env env, int& value);
Napi::Value ToJs(Napi::Env env, uint32_t& value);
Napi::Value ToJs(Napi::Env env, size_t& value);
// Descriptors leave their C++ owner here; what JavaScript does not wrap is lost from now on.
Napi::Value ToJs(Napi::Env env, UniqueFd& value);
Napi::Value ToJs(Napi::Env env, std::vector<uint8_t>& value);
Napi::Value ToJs(Napi::Env env, std::vector<uint32_t>& value);
Napi::Value ToJs(Napi::Env env, Program& value);
Napi::Value ToJs(Napi::Env env, DeviceFacts& value);
Napi::Value ToJs(Napi::Env env, RegionFacts& value);
Napi::Value ToJs(Napi::Env env, IrqFacts& value);
Napi::Value ToJs(Napi::Env env, MigrationFacts& value);
Napi::Value ToJs(Napi::Env env, IommuFacts& value);
Napi::Value ToJs(Napi::Env env, std::vector<ResetFunction>& value);
Napi::Value ToJs(Napi::Env env, Peer& value);
Napi::Value ToJs(Napi::Env env, Listener& value);
Napi::Value ToJs(Napi::Env env, ReceivedFrame& value);
Napi::Value ToJs(Napi::Env env, std::pair<uint64_t, uint64_t>& value);
Napi::Value ToJs(Napi::Env env, UeventBatch& value);
Napi::Value ToJs(Napi::Env env, std::vector<FileEvent>& value);
Napi::Value ErrorToJs(Napi::Env env, const SysError& error);

template <typename T>
Napi::Value ResultToJs(Napi::Env env, Result<T>& result) {
  Napi::Object object = Napi::Object::New(env);
  if (result.ok()) {
    object.Set("value", ToJs(env, result.value()));
    object.Set("error", env.Null());
  } else {
    object.Set("value", env.Null());
    object.Set("error", ErrorToJs(env, result.error()));
  }
  return object;
}

}  // namespace aperture
