// The machine as the doctor sees it: files, commands, system calls.
import { existsSync } from 'node:fs';
import { binding } from '../binding.ts';
import { hostFiles, type HostFiles } from '../host-files.ts';
import { runStep } from '../rules/install/run.ts';
import type { StepResult } from '../rules/types.ts';

/** What a diagnosis asks of the addon: each answers a number, or a negative errno. */
export interface HostAddon {
  /** `setsockopt(fd, SOL_IP, IP_TRANSPARENT)` */
  setTransparent(fd: number, on: boolean): number;
  /** Is conntrack at work for connections of this family? 1 or 0. */
  conntrackActive(family: 4 | 6, where: number): number;
  /** `clone(2)`: a descriptor of a new network namespace, or the negative errno and which call it was. */
  createNamespace(ipv4Only: boolean): number | [errno: number, step: number];
  closeFd(fd: number): unknown;
  /** `bpf(BPF_PROG_QUERY)`: how many programs see the connect(2) of a cgroup, by its descriptor. */
  connectPrograms(cgroup: number, family: 4 | 6): number;
  /** `bpf(BPF_PROG_QUERY)`: the numbers of those that are attached at a place (`enum bpf_attach_type`). */
  cgroupPrograms(cgroup: number, place: number, effective: boolean): number[] | number;
  /** `bpf(BPF_PROG_GET_FD_BY_ID)`: what a program is called. */
  programName(program: number): string | number;
}

/**
 * Everything that a diagnosis looks at. The checks read the machine through this alone, so that they can be shown
 * machines that are not at hand: WSL, gVisor, a kernel without conntrack.
 */
export interface Host extends HostFiles {
  readonly platform: string;
  /** Node's name of the machine type, `process.arch`. */
  readonly arch: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The program that needs the rights: Node's binary. */
  readonly program: string;
  exists(path: string): boolean;
  /** Runs a command, with the text on its standard input. */
  run(command: string, args: readonly string[], input?: string): Promise<StepResult>;
  /** The addon; throws where it cannot be loaded. */
  binding(): HostAddon;
}

/** The machine this process runs on. */
export const thisHost: Host = {
  ...hostFiles,
  platform: process.platform,
  arch: process.arch,
  env: process.env,
  program: process.execPath,
  exists: (path) => existsSync(path),
  run: (command, args, stdin = '') => runStep({ why: '', command: [command, ...args], stdin }),
  binding,
};
