{
  # Two targets so that the compiler itself keeps the layers apart: sys/ cannot see napi.h and cannot throw; only js/ can.
  "target_defaults": {
    # -iquote, not an include_dirs entry: <sys/socket.h> must stay the system's, "sys/socket.h" is ours. make runs in build/.
    "cflags": ["-iquote", "..", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"],
    "cflags_cc!": ["-std=gnu++17", "-std=gnu++20"],
    "cflags_cc": ["-std=c++17"],
  },
  "targets": [
    {
      "target_name": "aperture_sys",
      "type": "static_library",
      "cflags_cc": ["-Wconversion", "-Wshadow", "-fno-exceptions", "-fno-rtti"],
      "sources": [
        "sys/descriptor.cc",
        "sys/fault_guard.cc",
        "sys/folder_scan.cc",
        "sys/hot_reset.cc",
        "sys/inotify.cc",
        "sys/iommufd.cc",
        "sys/mapping.cc",
        "sys/mapping_plan.cc",
        "sys/memfd.cc",
        "sys/memlock.cc",
        "sys/pidfd.cc",
        "sys/poller.cc",
        "sys/poller_channel.cc",
        "sys/program.cc",
        "sys/region_caps.cc",
        "sys/result.cc",
        "sys/scm.cc",
        "sys/serial_queue.cc",
        "sys/workers.cc",
        "sys/socket.cc",
        "sys/uevent.cc",
        "sys/listen_unix.cc",
        "sys/vfio.cc",
      ],
    },
    {
      "target_name": "aperture",
      "dependencies": ["aperture_sys"],
      "include_dirs": ["<!@(node -p \"require('node-addon-api').include_dir\")"],
      "defines": [
        "NAPI_VERSION=8",
        "NODE_ADDON_API_CPP_EXCEPTIONS",
        "NODE_ADDON_API_DISABLE_DEPRECATED",
        # A worker that is being terminated cannot be thrown to; without this the whole process ends instead.
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS",
      ],
      # Node closes an addon with the last worker that loaded it. Threads that are still in the kernel for us, and signal
      # handlers, need the code to stay.
      "ldflags": ["-Wl,-z,nodelete"],
      "cflags_cc!": ["-fno-exceptions"],
      "cflags_cc": ["-fexceptions"],
      "sources": [
        "js/addon.cc",
        "js/calls.cc",
        "js/convert.cc",
        "js/dispatcher.cc",
        "js/loop_call.cc",
        "js/loop_poll.cc",
        "js/mapping_js.cc",
        "js/poller_js.cc",
        "js/queue.cc",
      ],
    },
  ],
}
