#pragma once

#include <napi.h>

namespace aperture {

Napi::Function PollerClass(Napi::Env env);

}  // namespace aperture
