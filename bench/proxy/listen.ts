// Listens as the mode wants it, and in the mode `ebpf` attaches the programs that lead here.
import type { RelayServer } from 'original-dst';
import { attachCapture } from 'original-dst/ebpf';
import { cgroupOf } from './topology.ts';

export function listen(server: RelayServer, mode: string, port: number): void {
  server.listen(port, mode === 'ebpf' ? '::' : '0.0.0.0');
  if (mode !== 'ebpf') return;
  server.once('listening', () => attachCapture({ cgroup: cgroupOf(port), port }));
}
