// [pure] Our declarations of the ABI against the header of this system, for whatever that header already
// knows.
#include <linux/vfio.h>

#include "check.h"
#include "sys/abi_iommufd.h"
#include "sys/abi_vfio.h"
#if __has_include(<linux/iommufd.h>)
#include <linux/iommufd.h>
#endif

namespace aperture {
namespace {

#define SAME_FIELD(ours, our_field, theirs, their_field)             \
  CHECK(offsetof(ours, our_field) == offsetof(theirs, their_field)); \
  CHECK(sizeof(static_cast<ours*>(nullptr)->our_field) == sizeof(static_cast<theirs*>(nullptr)->their_field))

TEST(abi_requests) {
  CHECK(vfio::kGetApiVersion == VFIO_GET_API_VERSION);
  CHECK(vfio::kCheckExtension == VFIO_CHECK_EXTENSION);
  CHECK(vfio::kSetIommu == VFIO_SET_IOMMU);
  CHECK(vfio::kGroupGetStatus == VFIO_GROUP_GET_STATUS);
  CHECK(vfio::kGroupSetContainer == VFIO_GROUP_SET_CONTAINER);
  CHECK(vfio::kGroupGetDeviceFd == VFIO_GROUP_GET_DEVICE_FD);
  CHECK(vfio::kDeviceGetInfo == VFIO_DEVICE_GET_INFO);
  CHECK(vfio::kDeviceGetRegionInfo == VFIO_DEVICE_GET_REGION_INFO);
  CHECK(vfio::kDeviceGetIrqInfo == VFIO_DEVICE_GET_IRQ_INFO);
  CHECK(vfio::kDeviceReset == VFIO_DEVICE_RESET);
  CHECK(vfio::kDeviceGetPciHotResetInfo == VFIO_DEVICE_GET_PCI_HOT_RESET_INFO);
  CHECK(vfio::kDeviceFeature == VFIO_DEVICE_FEATURE);
  CHECK(vfio::kFeatureGet == VFIO_DEVICE_FEATURE_GET);
  CHECK(vfio::kFeatureSet == VFIO_DEVICE_FEATURE_SET);
  CHECK(vfio::kFeatureProbe == VFIO_DEVICE_FEATURE_PROBE);
  CHECK(vfio::kRegionFlagCaps == VFIO_REGION_INFO_FLAG_CAPS);
  CHECK(vfio::kCapSparseMmap == VFIO_REGION_INFO_CAP_SPARSE_MMAP);
  CHECK(vfio::kCapType == VFIO_REGION_INFO_CAP_TYPE);
  CHECK(vfio::kCapMsixMappable == VFIO_REGION_INFO_CAP_MSIX_MAPPABLE);
}

TEST(abi_structs) {
  SAME_FIELD(vfio::RegionInfo, argsz, vfio_region_info, argsz);
  SAME_FIELD(vfio::RegionInfo, flags, vfio_region_info, flags);
  SAME_FIELD(vfio::RegionInfo, index, vfio_region_info, index);
  SAME_FIELD(vfio::RegionInfo, cap_offset, vfio_region_info, cap_offset);
  SAME_FIELD(vfio::RegionInfo, size, vfio_region_info, size);
  SAME_FIELD(vfio::RegionInfo, offset, vfio_region_info, offset);
  SAME_FIELD(vfio::DeviceInfo, num_regions, vfio_device_info, num_regions);
  SAME_FIELD(vfio::DeviceInfo, num_irqs, vfio_device_info, num_irqs);
  SAME_FIELD(vfio::IrqInfo, index, vfio_irq_info, index);
  SAME_FIELD(vfio::IrqInfo, count, vfio_irq_info, count);
  SAME_FIELD(vfio::CapHeader, id, vfio_info_cap_header, id);
  SAME_FIELD(vfio::CapHeader, version, vfio_info_cap_header, version);
  SAME_FIELD(vfio::CapHeader, next, vfio_info_cap_header, next);
  SAME_FIELD(vfio::CapSparseMmap, nr_areas, vfio_region_info_cap_sparse_mmap, nr_areas);
  SAME_FIELD(vfio::SparseMmapArea, offset, vfio_region_sparse_mmap_area, offset);
  SAME_FIELD(vfio::SparseMmapArea, size, vfio_region_sparse_mmap_area, size);
  CHECK(sizeof(vfio::CapSparseMmap) == offsetof(vfio_region_info_cap_sparse_mmap, areas));
  SAME_FIELD(vfio::CapType, type, vfio_region_info_cap_type, type);
  SAME_FIELD(vfio::CapType, subtype, vfio_region_info_cap_type, subtype);
  SAME_FIELD(vfio::Feature, argsz, vfio_device_feature, argsz);
  SAME_FIELD(vfio::Feature, flags, vfio_device_feature, flags);
  SAME_FIELD(vfio::GroupStatus, flags, vfio_group_status, flags);
  SAME_FIELD(vfio::HotResetInfo, argsz, vfio_pci_hot_reset_info, argsz);
  SAME_FIELD(vfio::HotResetInfo, flags, vfio_pci_hot_reset_info, flags);
  SAME_FIELD(vfio::HotResetInfo, count, vfio_pci_hot_reset_info, count);
  CHECK(sizeof(vfio::HotResetInfo) == offsetof(vfio_pci_hot_reset_info, devices));
  SAME_FIELD(vfio::DependentDevice, owner, vfio_pci_dependent_device, group_id);
  SAME_FIELD(vfio::DependentDevice, segment, vfio_pci_dependent_device, segment);
  SAME_FIELD(vfio::DependentDevice, bus, vfio_pci_dependent_device, bus);
  SAME_FIELD(vfio::DependentDevice, devfn, vfio_pci_dependent_device, devfn);
  CHECK(vfio::kFeatureMigration == VFIO_DEVICE_FEATURE_MIGRATION);
  SAME_FIELD(vfio::Migration, flags, vfio_device_feature_migration, flags);
}

TEST(abi_newer_than_debian_12) {
#ifdef VFIO_DEVICE_BIND_IOMMUFD
  CHECK(vfio::kDeviceBindIommufd == VFIO_DEVICE_BIND_IOMMUFD);
  SAME_FIELD(vfio::BindIommufd, iommufd, vfio_device_bind_iommufd, iommufd);
  SAME_FIELD(vfio::BindIommufd, out_devid, vfio_device_bind_iommufd, out_devid);
#endif
#ifdef VFIO_DEVICE_BIND_FLAG_TOKEN
  CHECK(vfio::kBindFlagToken == VFIO_DEVICE_BIND_FLAG_TOKEN);
  SAME_FIELD(vfio::BindIommufd, token_uuid_ptr, vfio_device_bind_iommufd, token_uuid_ptr);
#endif
#ifdef VFIO_DEVICE_FEATURE_DMA_BUF
  CHECK(vfio::kFeatureDmaBuf == VFIO_DEVICE_FEATURE_DMA_BUF);
  SAME_FIELD(vfio::DmaBuf, region_index, vfio_device_feature_dma_buf, region_index);
  SAME_FIELD(vfio::DmaBuf, open_flags, vfio_device_feature_dma_buf, open_flags);
  SAME_FIELD(vfio::DmaBuf, nr_ranges, vfio_device_feature_dma_buf, nr_ranges);
  SAME_FIELD(vfio::DmaBufRange, length, vfio_region_dma_range, length);
#endif
#ifdef IOMMU_OPTION
  CHECK(iommufd::kOption == IOMMU_OPTION);
  SAME_FIELD(iommufd::Option, option_id, iommu_option, option_id);
  SAME_FIELD(iommufd::Option, object_id, iommu_option, object_id);
  SAME_FIELD(iommufd::Option, val64, iommu_option, val64);
#endif
#ifdef IOMMU_GET_HW_INFO
  CHECK(iommufd::kGetHwInfo == IOMMU_GET_HW_INFO);
  CHECK(sizeof(iommufd::HwInfo) == sizeof(iommu_hw_info));
  SAME_FIELD(iommufd::HwInfo, dev_id, iommu_hw_info, dev_id);
  SAME_FIELD(iommufd::HwInfo, data_len, iommu_hw_info, data_len);
  SAME_FIELD(iommufd::HwInfo, data_uptr, iommu_hw_info, data_uptr);
  SAME_FIELD(iommufd::HwInfo, out_data_type, iommu_hw_info, out_data_type);
  SAME_FIELD(iommufd::HwInfo, out_capabilities, iommu_hw_info, out_capabilities);
#endif
}

}  // namespace
}  // namespace aperture
