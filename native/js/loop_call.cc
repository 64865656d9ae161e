#include "js/loop_call.h"

#include <node_api.h>

namespace aperture {

bool CanRunJs(napi_env env) {
  // Node-API has no question for it. This is the cheapest call that asks itself first; what it answers is of
  // no interest. The state changes on this thread only, between two callbacks of the loop.
  napi_value global;
  bool same;
  return napi_get_global(env, &global) == napi_ok &&
         napi_strict_equals(env, global, global, &same) == napi_ok;
}

void CallFromLoop(napi_env env, napi_value receiver, napi_value function,
                  std::initializer_list<napi_value> arguments) {
  // Not Napi::Function::MakeCallback: it throws when the worker is terminated in the callee, and nobody
  // catches here.
  const napi_status status =
      napi_make_callback(env, nullptr, receiver, function, arguments.size(), arguments.begin(), nullptr);
  napi_value exception;
  if (status == napi_pending_exception && napi_get_and_clear_last_exception(env, &exception) == napi_ok &&
      CanRunJs(env))
    napi_fatal_exception(env, exception);
}

}  // namespace aperture
