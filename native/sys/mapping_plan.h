// Where the areas of a region go in its reserved address space: arithmetic on numbers that a driver gave, all
// of it before the first mmap(), all of it without a system call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sys/region_caps.h"

namespace aperture {

struct MappingPlan {
  uint64_t size = 0;       // bytes that the region has, as the driver said
  uint64_t reserved = 0;   // size rounded up to pages
  uint64_t alignment = 0;  // base and fd offset are congruent modulo this
  // In order of offset, without the empty ones, none touching another's bytes.
  std::vector<RegionArea> areas;
};

enum class Place { kArea, kHole, kTail };

// A run of bytes of one kind that starts at an offset.
struct Run {
  Place place;
  uint64_t length;
};

// Null, or in a few words why these numbers cannot be mapped.
const char* PlanMapping(uint64_t fd_offset, uint64_t size, const std::vector<RegionArea>& areas,
                        uint64_t page, MappingPlan* plan);

// What lies at `offset` (below size) and how far it reaches. A hole has an area behind it, the tail has none.
Run RunAt(const MappingPlan& plan, uint64_t offset);

}  // namespace aperture
