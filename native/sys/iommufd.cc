#include "sys/iommufd.h"

#include <cerrno>

#include "sys/abi_iommufd.h"

namespace aperture {

Result<None> SetRlimitMode(int iommufd) {
  iommufd::Option option = {};
  option.size = sizeof(option);
  option.option_id = iommufd::kOptionRlimitMode;
  option.op = iommufd::kOptionOpSet;
  option.val64 = 1;
  if (ioctl(iommufd, iommufd::kOption, &option) < 0)
    return MakeError("IOMMU_OPTION", errno, "IOMMU_OPTION_RLIMIT_MODE");
  return None();
}

}  // namespace aperture
