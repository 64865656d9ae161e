// The iommufd requests that the broker itself makes; see abi_vfio.h for why they are declared here.
#pragma once

#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>

namespace aperture::iommufd {

// --- uapi/linux/iommufd.h, Linux 6.2 ---

constexpr unsigned long kOption = _IO(';', 0x87);
static_assert(kOption == 0x3b87);

constexpr uint32_t kOptionRlimitMode = 0;
constexpr uint16_t kOptionOpSet = 0;

struct Option {
  uint32_t size;
  uint32_t option_id;
  uint16_t op;
  uint16_t reserved;
  uint32_t object_id;
  uint64_t val64;
};
static_assert(sizeof(Option) == 24);
static_assert(offsetof(Option, size) == 0);
static_assert(offsetof(Option, option_id) == 4);
static_assert(offsetof(Option, op) == 8);
static_assert(offsetof(Option, reserved) == 10);
static_assert(offsetof(Option, object_id) == 12);
static_assert(offsetof(Option, val64) == 16);

// --- uapi/linux/iommufd.h, Linux 6.6; out_max_pasid_log2 since 6.15, before it a reserved zero ---

constexpr unsigned long kGetHwInfo = _IO(';', 0x8a);
static_assert(kGetHwInfo == 0x3b8a);

struct HwInfo {
  uint32_t size;
  uint32_t flags;
  uint32_t dev_id;
  uint32_t data_len;
  uint64_t data_uptr;
  uint32_t out_data_type;
  uint8_t out_max_pasid_log2;
  uint8_t reserved[3];
  uint64_t out_capabilities;
};
static_assert(sizeof(HwInfo) == 40);
static_assert(offsetof(HwInfo, size) == 0);
static_assert(offsetof(HwInfo, flags) == 4);
static_assert(offsetof(HwInfo, dev_id) == 8);
static_assert(offsetof(HwInfo, data_len) == 12);
static_assert(offsetof(HwInfo, data_uptr) == 16);
static_assert(offsetof(HwInfo, out_data_type) == 24);
static_assert(offsetof(HwInfo, out_max_pasid_log2) == 28);
static_assert(offsetof(HwInfo, reserved) == 29);
static_assert(offsetof(HwInfo, out_capabilities) == 32);

}  // namespace aperture::iommufd
