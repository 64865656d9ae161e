// The way back from native threads to JavaScript: one thread-safe function an environment (main thread or
// worker). It keeps the process alive only while something is pending. A thread that comes back after its
// environment is gone finds the door closed and drops its result, which closes the descriptors in it.
#pragma once

#include <napi.h>

#include <memory>
#include <mutex>

namespace aperture {

// What a thread brings back.
class Completion {
 public:
  virtual ~Completion() = default;
  // On the JavaScript thread, inside a handle scope.
  virtual void Complete(Napi::Env env) = 0;
};

class Dispatcher {
 public:
  static std::shared_ptr<Dispatcher> Create(Napi::Env env);

  // On the JavaScript thread, once for each Post() to come.
  void Begin();
  // Undoes a Begin() for which there will be no Post().
  void Cancel();
  // On any thread.
  void Post(std::unique_ptr<Completion> completion);

 private:
  explicit Dispatcher(Napi::Env env) : env_(env) {}
  static void CallJs(napi_env env, napi_value callback, void* context, void* data);
  static void CloseDoor(void* data);

  // JavaScript thread only.
  napi_env env_;
  size_t pending_ = 0;

  // Guards the thread-safe function against use after the environment's teardown has freed it: napi_closing
  // is reported only by one that still exists.
  std::mutex mutex_;
  bool open_ = false;
  napi_threadsafe_function function_ = nullptr;
};

}  // namespace aperture
