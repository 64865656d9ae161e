// The capability chain behind VFIO_DEVICE_GET_REGION_INFO, read as if an enemy had written it: a variant
// driver is third-party code, and a chain that loops must not hang a broker that holds everybody's devices.
// Pure: bytes in, facts out, so that a unit test and a fuzzer can reach every line of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace aperture {

struct RegionArea {
  uint64_t offset;
  uint64_t size;
};

struct RegionCaps {
  bool has_sparse = false;
  std::vector<RegionArea> sparse;
  bool has_type = false;
  uint32_t type = 0;
  uint32_t subtype = 0;
  bool msix_mappable = false;
};

// Walks the chain that starts at `first` in info[0, length). Returns null and fills `caps`, or returns in a
// few words what is wrong with the chain and leaves `caps` unspecified.
const char* WalkRegionCaps(const uint8_t* info, size_t length, uint32_t first, RegionCaps* caps);

}  // namespace aperture
