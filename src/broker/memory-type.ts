// No VFIO interface says whether a CPU mapping of a region is cacheable: the attribute travels only in the driver's own mmap code
// (kernel 7.3: no flag, no capability). So the broker keeps this table, each row with the source that was read.
// Never guess from a BAR number: nvgrace's cacheable aperture moved from BAR2 to BAR4 between its drafts and mainline.

import type { MemoryType } from "./device.js";

export interface MemoryTypeRow {
  readonly memoryType: MemoryType;
  readonly source: string;
}

interface Rule extends MemoryTypeRow {
  readonly driver: string;
  /** VFIO region index; null: every BAR of the driver that no earlier row names. */
  readonly region: number | null;
  /**
   * Only when the driver sent a sparse-mmap capability for the region. nvgrace falls back to plain vfio-pci behaviour when its ACPI properties
   * are missing, and then region 4 is an ordinary BAR; the capability is what tells the two apart.
   */
  readonly needsSparse: boolean;
}

const VFIO_PCI_MMAP = "drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_mmap(): pgprot_noncached";
const NVGRACE = "drivers/vfio/pci/nvgrace-gpu/main.c nvgrace_gpu_mmap()";

const RULES: readonly Rule[] = [
  {
    driver: "nvgrace_gpu_vfio_pci",
    region: 4,
    needsSparse: true,
    memoryType: "WRITE_BACK",
    source: `${NVGRACE}: usemem keeps the cacheable vm_page_prot (on arm64; x86 applies its PAT to untracked memory)`,
  },
  {
    driver: "nvgrace_gpu_vfio_pci",
    region: 2,
    needsSparse: true,
    memoryType: "WRITE_COMBINE",
    source: `${NVGRACE}: resmem is pgprot_writecombine (arm64 Normal-NC)`,
  },
  { driver: "nvgrace_gpu_vfio_pci", region: null, needsSparse: false, memoryType: "DEVICE", source: VFIO_PCI_MMAP },
  { driver: "vfio-pci", region: null, needsSparse: false, memoryType: "DEVICE", source: VFIO_PCI_MMAP },
  { driver: "mlx5_vfio_pci", region: null, needsSparse: false, memoryType: "DEVICE", source: VFIO_PCI_MMAP },
  { driver: "virtio_vfio_pci", region: null, needsSparse: false, memoryType: "DEVICE", source: VFIO_PCI_MMAP },
];

/** The memory type of a mappable BAR region. driver: name as in /sys/bus/pci/drivers; sparse: whether the driver sent areas. */
export function memoryTypeOf(driver: string, region: number, sparse: boolean): MemoryTypeRow {
  for (const rule of RULES) {
    if (rule.driver !== driver || (rule.region !== null && rule.region !== region) || (rule.needsSparse && !sparse)) continue;
    return { memoryType: rule.memoryType, source: rule.source };
  }
  return { memoryType: "UNSPECIFIED", source: `no row for driver ${driver} in the memory-type table (src/broker/memory-type.ts)` };
}
