#include "sys/hot_reset.h"

#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

#include "sys/abi_vfio.h"

namespace aperture {

namespace {

// A multi-function card; a PCIe switch below one slot takes a second round.
constexpr uint32_t kFirstCount = 32;
// One segment has 256 buses of 256 functions. More is no answer.
constexpr uint32_t kMostFunctions = 65536;
// Functions may appear between two rounds.
constexpr int kRounds = 3;

}  // namespace

Result<std::vector<ResetFunction>> QueryHotReset(const AskHotReset& ask, const std::string& subject) {
  const char* const operation = "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO";
  uint32_t room = kFirstCount;
  for (int round = 0; round < kRounds; round++) {
    std::vector<uint8_t> buffer(sizeof(vfio::HotResetInfo) + room * sizeof(vfio::DependentDevice));
    vfio::HotResetInfo info = {};
    info.argsz = static_cast<uint32_t>(buffer.size());
    memcpy(buffer.data(), &info, sizeof(info));
    const int failed = ask(buffer.data());
    memcpy(&info, buffer.data(), sizeof(info));
    // ENOSPC comes with the count that there is; EAGAIN says that it changed while the kernel counted.
    if (failed != 0 && failed != ENOSPC && failed != EAGAIN) return MakeError(operation, failed, subject);
    if (info.count > kMostFunctions) break;
    if (failed != 0 || info.count > room) {
      if (info.count > room) room = info.count;
      continue;
    }
    std::vector<ResetFunction> functions;
    functions.reserve(info.count);
    for (uint32_t i = 0; i < info.count; i++) {
      vfio::DependentDevice device;
      memcpy(&device, buffer.data() + sizeof(info) + i * sizeof(device), sizeof(device));
      functions.push_back({device.segment, device.bus, device.devfn});
    }
    return functions;
  }
  return MakeError(operation, 0, subject + ": no count of functions holds", "BAD_ANSWER");
}

Result<std::vector<ResetFunction>> GetHotResetInfo(int device, const std::string& subject) {
  const AskHotReset ask = [device](void* buffer) {
    return ioctl(device, vfio::kDeviceGetPciHotResetInfo, buffer) < 0 ? errno : 0;
  };
  return QueryHotReset(ask, subject);
}

}  // namespace aperture
