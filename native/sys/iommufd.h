#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sys/result.h"

namespace aperture {

struct IommuFacts {
  uint32_t kind;
  uint64_t capabilities;
  uint32_t max_pasid_log2;
  // The vendor's structure, as long as the kernel says it is, at most 256 bytes.
  std::vector<uint8_t> data;
};

// IOMMU_OPTION_RLIMIT_MODE = 1: pinned pages are charged to the process that maps them, as the VFIO container
// does. With the default 0 they are charged to the user over all processes, so that leases of one user starve
// each other. Only before the first object is made in the iommufd (else EBUSY), only with CAP_SYS_RESOURCE
// (else EPERM).
Result<None> SetRlimitMode(int iommufd);

// IOMMU_GET_HW_INFO of a device that is bound to the iommufd. device: what BIND returned.
Result<IommuFacts> GetIommuInfo(int iommufd, uint32_t device, const std::string& subject);

}  // namespace aperture
