#pragma once

#include <napi.h>

namespace aperture {

Napi::Function BlockingQueueClass(Napi::Env env);

}  // namespace aperture
