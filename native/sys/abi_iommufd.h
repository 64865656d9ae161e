// The one iommufd request that the broker itself makes; see abi_vfio.h for why it is declared here.
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

}  // namespace aperture::iommufd
