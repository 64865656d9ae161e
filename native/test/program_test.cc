// [real kernel] What a process runs, read through /proc.
#include "sys/program.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "check.h"

namespace aperture {
namespace {

std::string Text(const std::vector<uint8_t>& bytes) {
  return std::string(bytes.begin(), bytes.end());
}

TEST(program_of_this_process) {
  char target[4096];
  const ssize_t length = readlink("/proc/self/exe", target, sizeof(target));
  const Result<Program> got = ReadProgram(getpid());
  if (!CHECK(got.ok())) return;
  CHECK(Text(got.value().executable) == std::string(target, static_cast<size_t>(length)));
  struct stat status;
  CHECK(stat("/proc/self/exe", &status) == 0 && status.st_ino == got.value().inode);
  CHECK(got.value().exe_error.empty());
  CHECK(got.value().cgroup.empty() != got.value().cgroup_error.empty());
}

TEST(program_is_the_file_that_its_path_names) {
  const check::Folder folder;
  const std::string path = folder / "a program\nwith a newline";
  if (!CHECK(system(("cp /bin/sleep '" + path + "'").c_str()) == 0)) return;
  const pid_t child = fork();
  if (child == 0) {
    execl(path.c_str(), "sleep", "1000", nullptr);
    _exit(1);
  }
  // The child has exec'd once its exe is no longer ours.
  Result<Program> got = ReadProgram(child);
  while (got.ok() && Text(got.value().executable) != path) got = ReadProgram(child);
  if (CHECK(got.ok())) {
    const Program& program = got.value();
    const auto is_file = [&](const std::string& name) {
      const Result<bool> same = IsFile(name, program.device, program.inode);
      return same.ok() && same.value();
    };
    CHECK(is_file(path));
    CHECK(!is_file("/bin/sleep"));
    CHECK(!is_file(folder / "nothing"));
    CHECK(!is_file("/bin/sleep/below"));
    CHECK(symlink(path.c_str(), (folder / "link").c_str()) == 0 && !is_file(folder / "link"));
    // Replaced by another file of the same name, as an upgrade does.
    CHECK(unlink(path.c_str()) == 0 && !is_file(path));
    const Result<Program> deleted = ReadProgram(child);
    CHECK(deleted.ok() && Text(deleted.value().executable) == path + " (deleted)");
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

TEST(program_of_a_process_that_is_gone) {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  waitpid(child, nullptr, 0);
  const Result<Program> got = ReadProgram(child);
  CHECK(!got.ok() && got.error().number == ENOENT);
}

TEST(program_of_a_zombie_has_no_executable) {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  siginfo_t info;
  CHECK(waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT) == 0);
  const Result<Program> got = ReadProgram(child);
  CHECK(got.ok() && got.value().executable.empty() && !got.value().exe_error.empty());
  waitpid(child, nullptr, 0);
}

TEST(program_unified_cgroup_line) {
  CHECK(UnifiedCgroup("0::/user.slice/a\n") == "/user.slice/a");
  CHECK(UnifiedCgroup("12:cpu:/x\n1:name=systemd:/y\n0::/z\n") == "/z");
  CHECK(UnifiedCgroup("12:cpu:/0::/x\n").empty());
  CHECK(UnifiedCgroup("10::/x\n").empty());
  CHECK(UnifiedCgroup("").empty());
  CHECK(UnifiedCgroup("0::/no newline") == "/no newline");
}

}  // namespace
}  // namespace aperture
