/** The VFIO driver of GPUs whose memory the processor reaches as its own (NVIDIA Grace Hopper and Blackwell; drivers/vfio/pci/nvgrace-gpu). */
export const NVGRACE = "nvgrace_gpu_vfio_pci";
