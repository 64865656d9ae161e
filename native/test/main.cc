#include <sys/utsname.h>

#include "check.h"

// The default action must be what our own fault handlers chain to here, not the sanitizer's report.
extern "C" const char* __asan_default_options() {
  return "handle_segv=0:handle_sigbus=0";
}

int main() {
  struct utsname kernel;
  uname(&kernel);
  int passed = 0;
  int failed = 0;
  for (const check::Test& test : check::Tests()) {
    check::Failures() = 0;
    const int before = check::CountDescriptors();
    test.body();
    if (!CHECK(check::CountDescriptors() == before)) fprintf(stderr, "  descriptors leaked\n");
    if (check::Failures() == 0) {
      passed++;
    } else {
      failed++;
      fprintf(stderr, "failed: %s\n", test.name);
    }
  }
  printf("native/sys on Linux %s, uid %d: %d passed, %d failed\n", kernel.release, static_cast<int>(getuid()),
         passed, failed);
  return failed == 0 ? 0 : 1;
}
