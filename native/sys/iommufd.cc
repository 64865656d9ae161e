#include "sys/iommufd.h"

#include <algorithm>
#include <cerrno>

#include "sys/abi_iommufd.h"

namespace aperture {

namespace {

// The largest structure so far is SMMUv3's with 40 bytes; the kernel fills what fits and says how much there
// was.
constexpr uint32_t kVendorData = 256;

}  // namespace

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

Result<IommuFacts> GetIommuInfo(int iommufd, uint32_t device, const std::string& subject) {
  std::vector<uint8_t> data(kVendorData);
  iommufd::HwInfo info = {};
  info.size = sizeof(info);
  info.dev_id = device;
  info.data_len = kVendorData;
  info.data_uptr = reinterpret_cast<uintptr_t>(data.data());
  if (ioctl(iommufd, iommufd::kGetHwInfo, &info) < 0) return MakeError("IOMMU_GET_HW_INFO", errno, subject);
  data.resize(std::min(info.data_len, kVendorData));
  return IommuFacts{info.out_data_type, info.out_capabilities, info.out_max_pasid_log2, std::move(data)};
}

}  // namespace aperture
