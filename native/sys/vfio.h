// Every VFIO request the broker makes, one function each. All of them can block: none may be called on the
// event loop.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include "sys/region_caps.h"
#include "sys/result.h"
#include "sys/unique_fd.h"

namespace aperture {

struct DeviceFacts {
  uint32_t flags;
  uint32_t num_regions;
  uint32_t num_irqs;
};

struct RegionFacts {
  uint32_t index;
  uint32_t flags;
  uint64_t size;
  uint64_t offset;
  RegionCaps caps;
};

struct IrqFacts {
  uint32_t index;
  uint32_t flags;
  uint32_t count;
};

struct MigrationFacts {
  // VFIO_MIGRATION_*; 0 when the driver cannot migrate the device.
  uint64_t flags;
};

using Uuid = std::array<uint8_t, 16>;

// The 8-4-4-4-12 form, either case, into bytes in the order written: what the kernel's uuid_parse() does with
// the vf_token of a group, so that one token works on both paths.
bool ParseUuid(const std::string& text, Uuid* out);

// token null: none.
Result<uint32_t> BindIommufd(int device, int iommufd, const Uuid* token, const std::string& subject);
Result<DeviceFacts> GetDeviceInfo(int device, const std::string& subject);
Result<RegionFacts> GetRegionInfo(int device, uint32_t index, const std::string& subject);
Result<IrqFacts> GetIrqInfo(int device, uint32_t index, const std::string& subject);
Result<None> ResetDevice(int device, const std::string& subject);
Result<bool> ProbeFeature(int device, uint32_t feature, bool set, const std::string& subject);
// VFIO_DEVICE_FEATURE_MIGRATION.
Result<MigrationFacts> GetMigration(int device, const std::string& subject);
Result<UniqueFd> ExportDmaBuf(int device, uint32_t region, uint64_t offset, uint64_t length,
                              const std::string& subject);

Result<int> GetContainerApiVersion(int container);
Result<bool> CheckContainerExtension(int container, uint32_t extension);
Result<None> SetContainerIommu(int container, uint32_t type);
Result<uint32_t> GetGroupStatus(int group, const std::string& subject);
Result<None> SetGroupContainer(int group, int container, const std::string& subject);
Result<UniqueFd> GetGroupDevice(int group, const std::string& name);

// The question and answer of GetRegionInfo without the ioctl: `ask` gets the buffer, whose argsz is set, and
// returns 0 or an errno. Apart so that tests can play the kernel.
using AskRegion = std::function<int(void* buffer)>;
Result<RegionFacts> QueryRegion(const AskRegion& ask, uint32_t index, const std::string& subject);

}  // namespace aperture
