// The part of the VFIO ABI that Aperture uses, declared by us: distributions ship <linux/vfio.h> of the
// kernel they were built with (Debian 12: 6.1), which lacks everything newer, and a struct that silently
// grows with a header would change argsz under us. Every size and offset below is asserted, so the compiler
// refuses a slip of the pen. All VFIO requests are _IO(';', 100 + n): they carry no size, the kernel believes
// argsz.
#pragma once

#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>

namespace aperture::vfio {

#define APERTURE_ABI_FIELD(type, field, offset) static_assert(offsetof(type, field) == (offset))
#define APERTURE_ABI_SIZE(type, size) static_assert(sizeof(type) == (size))
#define APERTURE_ABI_NUMBER(request, number) static_assert((request) == (number))

// --- uapi/linux/vfio.h, container and group, Linux 3.6 ---

constexpr unsigned long kGetApiVersion = _IO(';', 100 + 0);
constexpr unsigned long kCheckExtension = _IO(';', 100 + 1);
constexpr unsigned long kSetIommu = _IO(';', 100 + 2);
constexpr unsigned long kGroupGetStatus = _IO(';', 100 + 3);
constexpr unsigned long kGroupSetContainer = _IO(';', 100 + 4);
constexpr unsigned long kGroupGetDeviceFd = _IO(';', 100 + 6);
APERTURE_ABI_NUMBER(kGetApiVersion, 0x3b64);
APERTURE_ABI_NUMBER(kCheckExtension, 0x3b65);
APERTURE_ABI_NUMBER(kSetIommu, 0x3b66);
APERTURE_ABI_NUMBER(kGroupGetStatus, 0x3b67);
APERTURE_ABI_NUMBER(kGroupSetContainer, 0x3b68);
APERTURE_ABI_NUMBER(kGroupGetDeviceFd, 0x3b6a);

struct GroupStatus {
  uint32_t argsz;
  uint32_t flags;
};
APERTURE_ABI_SIZE(GroupStatus, 8);
APERTURE_ABI_FIELD(GroupStatus, argsz, 0);
APERTURE_ABI_FIELD(GroupStatus, flags, 4);

// --- uapi/linux/vfio.h, device, Linux 3.6; cap_offset of the device since 4.11 ---

constexpr unsigned long kDeviceGetInfo = _IO(';', 100 + 7);
constexpr unsigned long kDeviceGetRegionInfo = _IO(';', 100 + 8);
constexpr unsigned long kDeviceGetIrqInfo = _IO(';', 100 + 9);
constexpr unsigned long kDeviceReset = _IO(';', 100 + 11);
APERTURE_ABI_NUMBER(kDeviceGetInfo, 0x3b6b);
APERTURE_ABI_NUMBER(kDeviceGetRegionInfo, 0x3b6c);
APERTURE_ABI_NUMBER(kDeviceGetIrqInfo, 0x3b6d);
APERTURE_ABI_NUMBER(kDeviceReset, 0x3b6f);

struct DeviceInfo {
  uint32_t argsz;
  uint32_t flags;
  uint32_t num_regions;
  uint32_t num_irqs;
  uint32_t cap_offset;
  uint32_t pad;
};
APERTURE_ABI_SIZE(DeviceInfo, 24);
APERTURE_ABI_FIELD(DeviceInfo, argsz, 0);
APERTURE_ABI_FIELD(DeviceInfo, flags, 4);
APERTURE_ABI_FIELD(DeviceInfo, num_regions, 8);
APERTURE_ABI_FIELD(DeviceInfo, num_irqs, 12);
APERTURE_ABI_FIELD(DeviceInfo, cap_offset, 16);
APERTURE_ABI_FIELD(DeviceInfo, pad, 20);

struct RegionInfo {
  uint32_t argsz;
  uint32_t flags;
  uint32_t index;
  uint32_t cap_offset;
  uint64_t size;
  uint64_t offset;
};
APERTURE_ABI_SIZE(RegionInfo, 32);
APERTURE_ABI_FIELD(RegionInfo, argsz, 0);
APERTURE_ABI_FIELD(RegionInfo, flags, 4);
APERTURE_ABI_FIELD(RegionInfo, index, 8);
APERTURE_ABI_FIELD(RegionInfo, cap_offset, 12);
APERTURE_ABI_FIELD(RegionInfo, size, 16);
APERTURE_ABI_FIELD(RegionInfo, offset, 24);
constexpr uint32_t kRegionFlagCaps = 1u << 3;

struct IrqInfo {
  uint32_t argsz;
  uint32_t flags;
  uint32_t index;
  uint32_t count;
};
APERTURE_ABI_SIZE(IrqInfo, 16);
APERTURE_ABI_FIELD(IrqInfo, argsz, 0);
APERTURE_ABI_FIELD(IrqInfo, flags, 4);
APERTURE_ABI_FIELD(IrqInfo, index, 8);
APERTURE_ABI_FIELD(IrqInfo, count, 12);

// --- uapi/linux/vfio.h, capability chain of region info, Linux 4.6; MSIX_MAPPABLE since 4.16 ---

struct CapHeader {
  uint16_t id;
  uint16_t version;
  uint32_t next;  // from the start of the info buffer; 0 ends the chain
};
APERTURE_ABI_SIZE(CapHeader, 8);
APERTURE_ABI_FIELD(CapHeader, id, 0);
APERTURE_ABI_FIELD(CapHeader, version, 2);
APERTURE_ABI_FIELD(CapHeader, next, 4);

constexpr uint16_t kCapSparseMmap = 1;
constexpr uint16_t kCapType = 2;
constexpr uint16_t kCapMsixMappable = 3;

struct CapSparseMmap {
  CapHeader header;
  uint32_t nr_areas;
  uint32_t reserved;
};
APERTURE_ABI_SIZE(CapSparseMmap, 16);
APERTURE_ABI_FIELD(CapSparseMmap, header, 0);
APERTURE_ABI_FIELD(CapSparseMmap, nr_areas, 8);
APERTURE_ABI_FIELD(CapSparseMmap, reserved, 12);

struct SparseMmapArea {
  uint64_t offset;
  uint64_t size;
};
APERTURE_ABI_SIZE(SparseMmapArea, 16);
APERTURE_ABI_FIELD(SparseMmapArea, offset, 0);
APERTURE_ABI_FIELD(SparseMmapArea, size, 8);

struct CapType {
  CapHeader header;
  uint32_t type;
  uint32_t subtype;
};
APERTURE_ABI_SIZE(CapType, 16);
APERTURE_ABI_FIELD(CapType, header, 0);
APERTURE_ABI_FIELD(CapType, type, 8);
APERTURE_ABI_FIELD(CapType, subtype, 12);

// --- uapi/linux/vfio.h, VFIO_DEVICE_FEATURE, Linux 5.7; DMA_BUF since 6.19 ---

constexpr unsigned long kDeviceFeature = _IO(';', 100 + 17);
APERTURE_ABI_NUMBER(kDeviceFeature, 0x3b75);
constexpr uint32_t kFeatureMask = 0xffff;
constexpr uint32_t kFeatureGet = 1u << 16;
constexpr uint32_t kFeatureSet = 1u << 17;
constexpr uint32_t kFeatureProbe = 1u << 18;
constexpr uint32_t kFeatureDmaBuf = 11;

struct Feature {
  uint32_t argsz;
  uint32_t flags;
};
APERTURE_ABI_SIZE(Feature, 8);
APERTURE_ABI_FIELD(Feature, argsz, 0);
APERTURE_ABI_FIELD(Feature, flags, 4);

struct DmaBufRange {
  uint64_t offset;
  uint64_t length;
};
APERTURE_ABI_SIZE(DmaBufRange, 16);
APERTURE_ABI_FIELD(DmaBufRange, offset, 0);
APERTURE_ABI_FIELD(DmaBufRange, length, 8);

struct DmaBuf {
  uint32_t region_index;
  uint32_t open_flags;
  uint32_t flags;
  uint32_t nr_ranges;
};
APERTURE_ABI_SIZE(DmaBuf, 16);
APERTURE_ABI_FIELD(DmaBuf, region_index, 0);
APERTURE_ABI_FIELD(DmaBuf, open_flags, 4);
APERTURE_ABI_FIELD(DmaBuf, flags, 8);
APERTURE_ABI_FIELD(DmaBuf, nr_ranges, 12);

// --- uapi/linux/vfio.h, cdev, Linux 6.6; flags and token_uuid_ptr since 6.17 ---

constexpr unsigned long kDeviceBindIommufd = _IO(';', 100 + 18);
APERTURE_ABI_NUMBER(kDeviceBindIommufd, 0x3b76);
constexpr uint32_t kBindFlagToken = 1u << 0;

struct BindIommufd {
  uint32_t argsz;
  uint32_t flags;
  int32_t iommufd;
  uint32_t out_devid;
  uint64_t token_uuid_ptr;
};
APERTURE_ABI_SIZE(BindIommufd, 24);
APERTURE_ABI_FIELD(BindIommufd, argsz, 0);
APERTURE_ABI_FIELD(BindIommufd, flags, 4);
APERTURE_ABI_FIELD(BindIommufd, iommufd, 8);
APERTURE_ABI_FIELD(BindIommufd, out_devid, 12);
APERTURE_ABI_FIELD(BindIommufd, token_uuid_ptr, 16);

// --- uapi/linux/vfio.h, hot reset, Linux 3.10; devid instead of group_id for cdevs since 6.6 ---

constexpr unsigned long kDeviceGetPciHotResetInfo = _IO(';', 100 + 12);
APERTURE_ABI_NUMBER(kDeviceGetPciHotResetInfo, 0x3b70);

struct DependentDevice {
  uint32_t owner;  // group_id, or devid of a cdev
  uint16_t segment;
  uint8_t bus;
  uint8_t devfn;
};
APERTURE_ABI_SIZE(DependentDevice, 8);
APERTURE_ABI_FIELD(DependentDevice, owner, 0);
APERTURE_ABI_FIELD(DependentDevice, segment, 4);
APERTURE_ABI_FIELD(DependentDevice, bus, 6);
APERTURE_ABI_FIELD(DependentDevice, devfn, 7);

struct HotResetInfo {
  uint32_t argsz;
  uint32_t flags;
  uint32_t count;
};
APERTURE_ABI_SIZE(HotResetInfo, 12);
APERTURE_ABI_FIELD(HotResetInfo, argsz, 0);
APERTURE_ABI_FIELD(HotResetInfo, flags, 4);
APERTURE_ABI_FIELD(HotResetInfo, count, 8);

// --- uapi/linux/vfio.h, migration as a feature, Linux 5.18 ---

constexpr uint32_t kFeatureMigration = 1;

struct Migration {
  uint64_t flags;
};
APERTURE_ABI_SIZE(Migration, 8);
APERTURE_ABI_FIELD(Migration, flags, 0);

#undef APERTURE_ABI_FIELD
#undef APERTURE_ABI_SIZE
#undef APERTURE_ABI_NUMBER

}  // namespace aperture::vfio
