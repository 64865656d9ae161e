#pragma once

#include <napi.h>

#include <memory>

#include "js/dispatcher.h"

namespace aperture {

struct MappingState;

// What the addon keeps for each environment. Nothing of JavaScript may be static: workers load the addon too.
struct AddonData {
  std::shared_ptr<Dispatcher> dispatcher;
  Napi::FunctionReference mapping_constructor;
  // What the next Mapping object takes over. JavaScript can reach the constructor, but never put anything
  // here.
  std::shared_ptr<MappingState> new_mapping;

  static AddonData* Of(Napi::Env env) { return env.GetInstanceData<AddonData>(); }
};

}  // namespace aperture
