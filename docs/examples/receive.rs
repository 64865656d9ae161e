//! Takes a lease by its ticket and reads the first word of a region.   usage: receive SOCKET TICKET REGION
//! std and the C library's own functions, no crate: rustc --edition 2021 receive.rs

use std::ffi::c_void;
use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{null_mut, read_volatile};

// The structures as 64-bit glibc has them; the libc crate has all of this.
#[repr(C)]
struct IoVec(*mut c_void, usize);
#[repr(C)]
struct MsgHdr(*mut c_void, u32, *mut IoVec, usize, *mut c_void, usize, i32);
extern "C" {
    fn socket(domain: i32, kind: i32, protocol: i32) -> i32;
    fn connect(fd: i32, address: *const c_void, length: u32) -> i32;
    fn send(fd: i32, bytes: *const c_void, length: usize, flags: i32) -> isize;
    fn recvmsg(fd: i32, message: *mut MsgHdr, flags: i32) -> isize;
    fn ioctl(fd: i32, request: u64, argument: *mut c_void) -> i32;
    fn mmap(at: *mut c_void, length: usize, protection: i32, flags: i32, fd: i32, offset: i64) -> *mut c_void;
    fn munmap(at: *mut c_void, length: usize) -> i32;
}
const MSG_CTRUNC: i32 = 8;
const MSG_NOSIGNAL: i32 = 0x4000;
const MSG_CMSG_CLOEXEC: i32 = 0x4000_0000;
const BIND_IOMMUFD: u64 = 0x3b76; // <linux/vfio.h>: _IO(';', 118)
const GET_REGION_INFO: u64 = 0x3b6c;

const ATTACH: u8 = 1;
const ATTACHED: u8 = 2;
const OFFER: u8 = 3;
const ACK: u8 = 4;
const GOODBYE: u8 = 6;
const SHOW: u8 = 8;
const REFUSED: u8 = 9;
const IOMMUFD: u16 = 1;
const DEVICE_UNBOUND: u16 = 2;
const DEVICE: u16 = 5;
const REGION: u16 = 6;
const NO_NUMBER: u32 = u32::MAX;

fn at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().expect("checked by the caller's length")
}

fn last_error<T: PartialOrd + Default>(result: T) -> Result<T> {
    if result < T::default() { Err(Error::last_os_error()) } else { Ok(result) }
}

fn say(channel: &OwnedFd, kind: u8, body: &[u8]) -> Result<()> {
    let mut frame = vec![b'A', b'P', b'T', b'R', 1, kind, 0, 0];
    frame.extend(((16 + body.len()) as u32).to_le_bytes());
    frame.extend([0; 4]);
    frame.extend(body);
    last_error(unsafe { send(channel.as_raw_fd(), frame.as_ptr().cast(), frame.len(), MSG_NOSIGNAL) }).map(|_| ())
}

/// One frame with its descriptors, which are closed when they are dropped.
fn hear(channel: &OwnedFd) -> Result<(u8, Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0u8; 1328];
    let mut control = [0u64; 18]; // CMSG_SPACE of 32 descriptors: a header of 16 bytes and 128 more
    let mut part = IoVec(bytes.as_mut_ptr().cast(), bytes.len());
    let mut message = MsgHdr(null_mut(), 0, &mut part, 1, control.as_mut_ptr().cast(), 144, 0);
    let length = last_error(unsafe { recvmsg(channel.as_raw_fd(), &mut message, MSG_CMSG_CLOEXEC) })?;
    bytes.truncate(length as usize);
    let mut descriptors = Vec::new();
    // cmsghdr: length with the header (8 bytes), level 1 (SOL_SOCKET), type 1 (SCM_RIGHTS).
    if message.5 >= 16 && control[1] == 1 | 1 << 32 {
        for i in 0..(control[0] as usize - 16) / 4 {
            let fd = (control[2 + i / 2] >> (32 * (i % 2))) as i32;
            descriptors.push(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    if length < 16 || bytes[..5] != *b"APTR\x01" || u32::from_le_bytes(at(&bytes, 8)) as usize != bytes.len() {
        return Err(Error::other("the channel is over, or this is no frame"));
    }
    if bytes[5] == GOODBYE || bytes[5] == REFUSED {
        return Err(Error::other(String::from_utf8_lossy(&bytes[20..]).trim_end_matches('\0').to_string()));
    }
    if message.6 & MSG_CTRUNC != 0 {
        descriptors.clear(); // RLIMIT_NOFILE: all or nothing
        say(channel, ACK, &[&bytes[16..32], &[0; 8]].concat())?;
        return Err(Error::other("raise RLIMIT_NOFILE"));
    }
    Ok((bytes[5], bytes, descriptors))
}

/// Padded size, offset in the descriptor, and the first area that can be mapped.
fn region_info(device: &OwnedFd, index: u32) -> Result<(u64, u64, (u64, u64))> {
    let mut answer = vec![0u64; 512]; // 4 KiB hold a chain of 250 areas, so one question is enough
    answer[0] = 4096;
    answer[1] = index.into();
    last_error(unsafe { ioctl(device.as_raw_fd(), GET_REGION_INFO, answer.as_mut_ptr().cast()) })?;
    let bytes: Vec<u8> = answer.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let (flags, size, offset) = (u32::from_ne_bytes(at(&bytes, 4)), answer[2], answer[3]);
    let mut area = (0, if flags & 4 != 0 { size } else { 0 });
    let mut link = if flags & 8 != 0 { u32::from_ne_bytes(at(&bytes, 12)) as usize } else { 0 };
    let mut floor = 32;
    while link != 0 {
        if link < floor || link + 32 > bytes.len() {
            return Err(Error::other("a broken capability chain"));
        }
        if at(&bytes, link) == [1u8, 0, 1, 0] && u32::from_ne_bytes(at(&bytes, link + 8)) > 0 {
            area = (u64::from_ne_bytes(at(&bytes, link + 16)), u64::from_ne_bytes(at(&bytes, link + 24)));
        }
        floor = link + 8;
        link = u32::from_ne_bytes(at(&bytes, link + 4)) as usize;
    }
    Ok((size, offset, area))
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, path, ticket, index] = arguments.as_slice() else { return Err(Error::other("usage: receive SOCKET TICKET REGION")) };
    let index: u32 = index.parse().map_err(Error::other)?;
    let digits = |i: usize| u8::from_str_radix(ticket.get(2 * i..2 * i + 2).unwrap_or("-"), 16).map_err(Error::other);
    let ticket = (0..16).map(digits).collect::<Result<Vec<u8>>>()?;

    let mut address = [&1u16.to_ne_bytes()[..], path.as_bytes(), b".channel"].concat(); // AF_UNIX
    address.resize(110, 0); // sockaddr_un
    let channel = unsafe { OwnedFd::from_raw_fd(last_error(socket(1, 5 | 0o2000000, 0))?) }; // SOCK_SEQPACKET, close-on-exec
    last_error(unsafe { connect(channel.as_raw_fd(), address.as_ptr().cast(), 110) })?;
    say(&channel, ATTACH, &[])?;
    if hear(&channel)?.0 != ATTACHED {
        return Err(Error::other("not attached"));
    }
    say(&channel, SHOW, &ticket)?;
    let (kind, offer, descriptors) = hear(&channel)?;
    let count = descriptors.len();
    if kind != OFFER || offer.len() != 48 + 40 * count || u32::from_le_bytes(at(&offer, 32)) as usize != count {
        return Err(Error::other("no offer that this program understands"));
    }
    let lease = &offer[16..32];
    say(&channel, ACK, &[lease, &(count as u32).to_le_bytes(), &[0; 4]].concat())?; // at once: the daemon waits 2 s

    let entry = |i: usize| &offer[48 + 40 * i..88 + 40 * i];
    let find = |kind: u16, number: u32| {
        (0..count).find(|&i| u16::from_le_bytes(at(entry(i), 0)) == kind && u32::from_le_bytes(at(entry(i), 4)) == number)
    };
    let device = find(DEVICE_UNBOUND, NO_NUMBER).or(find(DEVICE, NO_NUMBER));
    if let (Some(iommufd), Some(device), 0) = (find(IOMMUFD, NO_NUMBER), device, offer[38] & 1) {
        // Once, and before everything else; a successor's devices are bound already.
        let mut bind = [16u32, 0, descriptors[iommufd].as_raw_fd() as u32, 0];
        last_error(unsafe { ioctl(descriptors[device].as_raw_fd(), BIND_IOMMUFD, bind.as_mut_ptr().cast()) })?;
    }
    let (fd, size, offset, area) = match (device, find(REGION, index)) {
        (Some(device), _) => {
            let (size, offset, area) = region_info(&descriptors[device], index)?;
            (&descriptors[device], size, offset, area)
        }
        (None, Some(i)) => {
            // A region descriptor for each region, and no device: the file ends where the memory does.
            let (offset, size) = (u64::from_le_bytes(at(entry(i), 24)), u64::from_le_bytes(at(entry(i), 32)));
            let file = File::from(descriptors[i].try_clone()?).metadata()?.len();
            (&descriptors[i], size, offset, (0, size.min(file.saturating_sub(offset))))
        }
        (None, None) => return Err(Error::other("no such region")),
    };
    // MAP_SHARED (1), never private: that is a kernel BUG with nvgrace. Only the area: behind it is EINVAL.
    let memory = unsafe { mmap(null_mut(), area.1 as usize, 3, 1, fd.as_raw_fd(), (offset + area.0) as i64) };
    if memory as isize == -1 {
        return Err(Error::last_os_error());
    }
    let word = unsafe { read_volatile(memory.cast::<u32>()) };
    let hex: String = lease.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{}-{}-{}-{}-{} {index} {size} {} 0x{word:08x}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..], area.0 + area.1);
    last_error(unsafe { munmap(memory, area.1 as usize) })?; // first: a mapping keeps the device, whatever is closed
    Ok(()) // dropping `descriptors` closes them; the exit ends the lease
}
