#include "js/dispatcher.h"

#include "js/loop_call.h"

namespace aperture {

std::shared_ptr<Dispatcher> Dispatcher::Create(Napi::Env env) {
  std::shared_ptr<Dispatcher> dispatcher(new Dispatcher(env));
  // The function's context owns one reference, given up when Node has finalized the function.
  auto* holder = new std::shared_ptr<Dispatcher>(dispatcher);
  const napi_status status = napi_create_threadsafe_function(
      env, nullptr, nullptr, Napi::String::New(env, "aperture"), 0, 1, holder,
      [](napi_env, void* data, void*) { delete static_cast<std::shared_ptr<Dispatcher>*>(data); },
      dispatcher.get(), &Dispatcher::CallJs, &dispatcher->function_);
  if (status != napi_ok) {
    delete holder;
    throw Napi::Error::New(env, "aperture: cannot create a thread-safe function");
  }
  napi_unref_threadsafe_function(env, dispatcher->function_);
  dispatcher->open_ = true;
  // Hooks run last in, first out: ours comes before the one with which Node tears the function down.
  napi_add_env_cleanup_hook(env, &Dispatcher::CloseDoor, dispatcher.get());
  return dispatcher;
}

void Dispatcher::CloseDoor(void* data) {
  Dispatcher* self = static_cast<Dispatcher*>(data);
  const std::lock_guard<std::mutex> lock(self->mutex_);
  self->open_ = false;
}

void Dispatcher::Begin() {
  if (pending_++ == 0) napi_ref_threadsafe_function(env_, function_);
}

void Dispatcher::Cancel() {
  if (--pending_ == 0) napi_unref_threadsafe_function(env_, function_);
}

void Dispatcher::Post(std::unique_ptr<Completion> completion) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!open_) return;
  // The queue has no bound, so a non-blocking call fails only when the environment is going.
  if (napi_call_threadsafe_function(function_, completion.get(), napi_tsfn_nonblocking) == napi_ok)
    static_cast<void>(completion.release());
}

void Dispatcher::CallJs(napi_env env, napi_value, void* context, void* data) {
  const std::unique_ptr<Completion> completion(static_cast<Completion*>(data));
  // At teardown Node empties the queue without an environment. What is dropped closes its descriptors.
  if (env == nullptr) return;
  const Napi::HandleScope scope(env);
  if (!CanRunJs(env)) return;
  static_cast<Dispatcher*>(context)->Cancel();
  try {
    completion->Complete(env);
  } catch (const Napi::Error&) {
    // A worker terminated in the middle. Nobody is left to be told.
  }
}

}  // namespace aperture
