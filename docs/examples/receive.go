// Takes a lease by its ticket and reads the first word of a region.   usage: receive SOCKET TICKET REGION
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"unsafe"
)

const (
	bindIommufd   = 0x3b76 // <linux/vfio.h>: _IO(';', 118)
	getRegionInfo = 0x3b6c
	noNumber      = 0xffffffff

	attach, attached, offer, ack, goodbye, show, refused = 1, 2, 3, 4, 6, 8, 9

	iommufd, deviceUnbound, device, region = 1, 2, 5, 6
)

var order = binary.LittleEndian

func say(channel int, kind byte, body ...[]byte) error {
	payload := bytes.Join(body, nil)
	frame := make([]byte, 16, 16+len(payload))
	copy(frame, "APTR\x01")
	frame[5] = kind
	order.PutUint32(frame[8:], uint32(16+len(payload)))
	return syscall.Sendmsg(channel, append(frame, payload...), nil, nil, syscall.MSG_NOSIGNAL)
}

func closeAll(descriptors []int) {
	for _, descriptor := range descriptors {
		syscall.Close(descriptor)
	}
}

// One frame with its descriptors.
func hear(channel int) ([]byte, []int, error) {
	frame, control := make([]byte, 1328), make([]byte, syscall.CmsgSpace(32*4))
	length, controlLength, flags, _, err := syscall.Recvmsg(channel, frame, control, syscall.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, nil, err
	}
	frame = frame[:length]
	var descriptors []int
	messages, _ := syscall.ParseSocketControlMessage(control[:controlLength])
	for i := range messages {
		received, _ := syscall.ParseUnixRights(&messages[i])
		descriptors = append(descriptors, received...)
	}
	switch {
	case length < 16 || string(frame[:5]) != "APTR\x01" || int(order.Uint32(frame[8:])) != length:
		err = errors.New("the channel is over, or this is no frame")
	case frame[5] == goodbye || frame[5] == refused:
		err = errors.New(string(bytes.TrimRight(frame[20:], "\x00")))
	case flags&syscall.MSG_CTRUNC != 0: // RLIMIT_NOFILE: all or nothing
		say(channel, ack, frame[16:32], make([]byte, 8))
		err = errors.New("raise RLIMIT_NOFILE")
	}
	if err != nil {
		closeAll(descriptors)
		return nil, nil, err
	}
	return frame, descriptors, nil
}

func ioctl(fd int, request uintptr, argument unsafe.Pointer) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(argument)); errno != 0 {
		return errno
	}
	return nil
}

// Padded size, offset in the descriptor, and the first area that can be mapped.
func regionInfo(device int, index uint32) (size, offset, start, length uint64, err error) {
	answer := make([]byte, 4096) // holds a chain of 250 areas, so one question is enough
	order.PutUint32(answer, uint32(len(answer)))
	order.PutUint32(answer[8:], index)
	if err = ioctl(device, getRegionInfo, unsafe.Pointer(&answer[0])); err != nil {
		return
	}
	flags, link, floor := order.Uint32(answer[4:]), 0, 32
	size, offset = order.Uint64(answer[16:]), order.Uint64(answer[24:])
	if flags&4 != 0 {
		length = size
	}
	if flags&8 != 0 {
		link = int(order.Uint32(answer[12:]))
	}
	for link != 0 {
		if link < floor || link+32 > len(answer) {
			return 0, 0, 0, 0, errors.New("a broken capability chain")
		}
		if order.Uint32(answer[link:]) == 1|1<<16 && order.Uint32(answer[link+8:]) > 0 { // SPARSE_MMAP, version 1
			start, length = order.Uint64(answer[link+16:]), order.Uint64(answer[link+24:])
		}
		floor, link = link+8, int(order.Uint32(answer[link+4:]))
	}
	return
}

func run(path, ticketText, indexText string) error {
	index, err := strconv.ParseUint(indexText, 10, 32)
	if err != nil {
		return err
	}
	ticket, err := hex.DecodeString(ticketText)
	if err != nil || len(ticket) != 16 {
		return errors.New("a ticket is 32 hexadecimal digits")
	}
	channel, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(channel)
	if err := syscall.Connect(channel, &syscall.SockaddrUnix{Name: path + ".channel"}); err != nil {
		return err
	}
	if err := say(channel, attach); err != nil {
		return err
	}
	if frame, _, err := hear(channel); err != nil || frame[5] != attached {
		return fmt.Errorf("not attached: %v", err)
	}
	if err := say(channel, show, ticket); err != nil {
		return err
	}
	frame, descriptors, err := hear(channel)
	if err != nil {
		return err
	}
	defer closeAll(descriptors) // after the mapping
	count := len(descriptors)
	if frame[5] != offer || len(frame) != 48+40*count || int(order.Uint32(frame[32:])) != count {
		return errors.New("no offer that this program understands")
	}
	lease := frame[16:32]
	if err := say(channel, ack, lease, frame[32:36], make([]byte, 4)); err != nil { // at once: the daemon waits 2 s
		return err
	}

	find := func(kind uint16, number uint32) int {
		for i := 0; i < count; i++ {
			entry := frame[48+40*i:]
			if order.Uint16(entry) == kind && order.Uint32(entry[4:]) == number {
				return i
			}
		}
		return -1
	}
	whole := find(deviceUnbound, noNumber)
	if whole < 0 {
		whole = find(device, noNumber)
	}
	if context := find(iommufd, noNumber); context >= 0 && frame[38]&1 == 0 { // a successor's devices are bound already
		bind := [4]uint32{16, 0, uint32(descriptors[context]), 0}
		if err := ioctl(descriptors[whole], bindIommufd, unsafe.Pointer(&bind)); err != nil {
			return err
		}
	}
	var fd int
	var size, offset, start, length uint64
	if whole >= 0 {
		fd = descriptors[whole]
		if size, offset, start, length, err = regionInfo(fd, uint32(index)); err != nil {
			return err
		}
	} else if i := find(region, uint32(index)); i >= 0 {
		// A region descriptor for each region, and no device: the file ends where the memory does.
		var file syscall.Stat_t
		fd, offset, size = descriptors[i], order.Uint64(frame[48+40*i+24:]), order.Uint64(frame[48+40*i+32:])
		if err := syscall.Fstat(fd, &file); err != nil {
			return err
		}
		if length = uint64(file.Size) - offset; length > size {
			length = size
		}
	} else {
		return errors.New("no such region")
	}
	// MAP_SHARED, never private: that is a kernel BUG with nvgrace. Only the area: behind it is EINVAL.
	memory, err := syscall.Mmap(fd, int64(offset+start), int(length), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return err
	}
	word := atomic.LoadUint32((*uint32)(unsafe.Pointer(&memory[0]))) // one load of 32 bits
	fmt.Printf("%x-%x-%x-%x-%x %d %d %d 0x%08x\n", lease[:4], lease[4:6], lease[6:8], lease[8:10], lease[10:], index, size, start+length, word)
	return syscall.Munmap(memory) // first: a mapping keeps the device, whatever is closed
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: receive SOCKET TICKET REGION")
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatal(err)
	}
}
