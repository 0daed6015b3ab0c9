// The names of `original-dst/ebpf`.
/**
 * Interception without conntrack, by BPF programs: what programs of a cgroup dial (`attachCapture`), and what is delivered
 * to this host at many ports (`attachListener`).
 *
 * @module original-dst/ebpf
 */
export { attachCapture, type Capture, type CaptureOptions, type CaptureStats } from './capture.ts';
export { attachListener, type ListenerOptions, type PortListener } from './listener.ts';
