#include "sys/mapping_plan.h"

#include <algorithm>

namespace aperture {

namespace {

constexpr uint64_t kHuge = uint64_t{1} << 30;   // a PUD leaf, x86-64 and arm64 with 4 KiB pages
constexpr uint64_t kLarge = uint64_t{1} << 21;  // a PMD leaf

}  // namespace

const char* PlanMapping(uint64_t fd_offset, uint64_t size, const std::vector<RegionArea>& areas,
                        uint64_t page, MappingPlan* plan) {
  constexpr uint64_t kLast = INT64_MAX;  // off_t
  if (size == 0) return "the region is empty";
  if (fd_offset % page != 0) return "the region's offset is not a multiple of the page size";
  if (size > kLast - kHuge - page || fd_offset > kLast - size)
    return "the region ends beyond the largest offset";
  plan->size = size;
  plan->reserved = (size + page - 1) / page * page;
  // A leaf needs virtual and file offset to be congruent at its own size (mm/huge_memory.c and
  // vfio_pci_core's huge_fault), and room for itself: a region below 1 GiB can have no 1 GiB leaf, so
  // aligning it so far would only spread small BARs over the address space. Misaligned, the same head costs
  // 20 times the page faults.
  plan->alignment = size >= kHuge ? kHuge : size >= kLarge ? kLarge : page;
  plan->areas.clear();
  for (const RegionArea& area : areas) {
    if (area.offset > size || area.size > size - area.offset) return "an area ends beyond the region";
    // Drivers do report empty areas (a BAR that the MSI-X table fills).
    if (area.size == 0) continue;
    if (area.offset % page != 0) return "an area does not start at a page";
    // A BAR smaller than a page can be mapped when nothing else is in its page; then its area is the region's
    // end.
    if (area.size % page != 0 && area.offset + area.size != size) return "an area does not end at a page";
    plan->areas.push_back(area);
  }
  // The ABI promises no order.
  std::sort(plan->areas.begin(), plan->areas.end(),
            [](const RegionArea& a, const RegionArea& b) { return a.offset < b.offset; });
  for (size_t i = 1; i < plan->areas.size(); i++) {
    const RegionArea& before = plan->areas[i - 1];
    if (plan->areas[i].offset < before.offset + before.size) return "two areas overlap";
  }
  return nullptr;
}

Run RunAt(const MappingPlan& plan, uint64_t offset) {
  for (const RegionArea& area : plan.areas) {
    if (offset < area.offset) return {Place::kHole, area.offset - offset};
    if (offset - area.offset < area.size) return {Place::kArea, area.size - (offset - area.offset)};
  }
  return {Place::kTail, plan.size - offset};
}

}  // namespace aperture
