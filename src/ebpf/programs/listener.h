// What the listener's BPF program and this process both know.
#ifndef ORIGINAL_DST_EBPF_PROGRAMS_LISTENER_H_
#define ORIGINAL_DST_EBPF_PROGRAMS_LISTENER_H_

// TCP over IPv4, over IPv6, UDP over IPv4, over IPv6.
enum { kListenerSockets = 4 };

#endif  // ORIGINAL_DST_EBPF_PROGRAMS_LISTENER_H_
