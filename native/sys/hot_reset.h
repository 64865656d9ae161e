// Which functions one hot reset takes down together, as the kernel tells it. Apart from the other requests
// because the answer is of unknown length and is asked for until it fits.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "sys/result.h"

namespace aperture {

struct ResetFunction {
  uint32_t segment;
  uint32_t bus;
  uint32_t devfn;
};

// VFIO_DEVICE_GET_PCI_HOT_RESET_INFO. ENODEV: neither slot nor bus of the device can be reset.
Result<std::vector<ResetFunction>> GetHotResetInfo(int device, const std::string& subject);

// The question and answer without the ioctl: `ask` gets the buffer, whose argsz is set, and returns 0 or an
// errno. Apart so that tests can play the kernel.
using AskHotReset = std::function<int(void* buffer)>;
Result<std::vector<ResetFunction>> QueryHotReset(const AskHotReset& ask, const std::string& subject);

}  // namespace aperture
