#include "sys/region_caps.h"

#include <cstring>

#include "sys/abi_vfio.h"

namespace aperture {

namespace {

// The kernel aligns capabilities to 8 bytes only since 6.6 (drivers/vfio/vfio_main.c, vfio_info_cap_add), so
// nothing in the chain may be read through a pointer to a struct.
template <typename T>
bool ReadAt(const uint8_t* info, size_t length, size_t position, T* out) {
  if (position > length || length - position < sizeof(T)) return false;
  memcpy(out, info + position, sizeof(T));
  return true;
}

// Reads one SPARSE_MMAP capability; *end is set to the first byte after its areas.
const char* ReadSparse(const uint8_t* info, size_t length, size_t position, RegionCaps* caps, size_t* end) {
  vfio::CapSparseMmap cap;
  if (caps->has_sparse) return "sparse-mmap capability twice";
  if (!ReadAt(info, length, position, &cap)) return "sparse-mmap capability crosses the end";
  position += sizeof(cap);
  if (cap.nr_areas > (length - position) / sizeof(vfio::SparseMmapArea))
    return "sparse-mmap areas cross the end";
  caps->has_sparse = true;
  caps->sparse.reserve(cap.nr_areas);
  for (uint32_t i = 0; i < cap.nr_areas; i++) {
    vfio::SparseMmapArea area;
    if (!ReadAt(info, length, position, &area)) return "sparse-mmap areas cross the end";
    caps->sparse.push_back({area.offset, area.size});
    position += sizeof(area);
  }
  *end = position;
  return nullptr;
}

const char* ReadType(const uint8_t* info, size_t length, size_t position, RegionCaps* caps, size_t* end) {
  vfio::CapType cap;
  if (caps->has_type) return "type capability twice";
  if (!ReadAt(info, length, position, &cap)) return "type capability crosses the end";
  caps->has_type = true;
  caps->type = cap.type;
  caps->subtype = cap.subtype;
  *end = position + sizeof(cap);
  return nullptr;
}

}  // namespace

const char* WalkRegionCaps(const uint8_t* info, size_t length, uint32_t first, RegionCaps* caps) {
  *caps = RegionCaps();
  // Every link must lead past the end of what was read before it. That refuses loops and backward links
  // without counting, and every kernel fulfils it: vfio_info_cap_add() only ever appends.
  size_t floor = sizeof(vfio::RegionInfo);
  size_t position = first;
  if (first == 0) return "no first capability";
  while (position != 0) {
    vfio::CapHeader header;
    if (position < floor) return "link leads backward";
    if (!ReadAt(info, length, position, &header)) return "link leads beyond the end";
    size_t end = position + sizeof(header);
    const char* fault = nullptr;
    switch (header.id) {
      case vfio::kCapSparseMmap:
        // A later version may mean other bytes. Skipping it would claim that the whole region can be mapped.
        if (header.version != 1) return "sparse-mmap capability of an unknown version";
        fault = ReadSparse(info, length, position, caps, &end);
        break;
      case vfio::kCapType:
        if (header.version != 1) return "type capability of an unknown version";
        fault = ReadType(info, length, position, caps, &end);
        break;
      case vfio::kCapMsixMappable:
        caps->msix_mappable = true;
        break;
      default:
        // Unknown capabilities are the ABI's way to grow.
        break;
    }
    if (fault != nullptr) return fault;
    floor = end;
    position = header.next;
  }
  return nullptr;
}

}  // namespace aperture
