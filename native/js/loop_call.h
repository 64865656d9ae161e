// Calling JavaScript from the event loop, where there is nobody to throw to.
#pragma once

#include <napi.h>

#include <initializer_list>

namespace aperture {

// False in a worker that is being terminated: its loop still turns once, but no value can be given to a
// script any more. What arrives in that turn is dropped instead, which closes the descriptors in it.
bool CanRunJs(napi_env env);

// An exception of the callee becomes an uncaught exception, as it would from any event.
void CallFromLoop(napi_env env, napi_value receiver, napi_value function,
                  std::initializer_list<napi_value> arguments);

}  // namespace aperture
