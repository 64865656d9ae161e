#pragma once

#include "sys/result.h"

namespace aperture {

// IOMMU_OPTION_RLIMIT_MODE = 1: pinned pages are charged to the process that maps them, as the VFIO container
// does. With the default 0 they are charged to the user over all processes, so that leases of one user starve
// each other. Only before the first object is made in the iommufd (else EBUSY), only with CAP_SYS_RESOURCE
// (else EPERM).
Result<None> SetRlimitMode(int iommufd);

}  // namespace aperture
