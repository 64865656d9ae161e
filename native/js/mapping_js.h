#pragma once

#include <napi.h>

namespace aperture {

Napi::Function MappingClass(Napi::Env env);
Napi::Value MapRegionJs(const Napi::CallbackInfo& info);

}  // namespace aperture
