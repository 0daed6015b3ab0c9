// A virtual machine: a kernel from a package, a root shared read-only over 9p below a RAM disk, no network device.
import { execFileSync, spawn } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { once } from 'node:events';
import type { ScenarioOutcome } from '../../test/fixtures/programs/scenarios.ts';
import { root as project } from '../native.ts';
import { readScenarios } from '../scenario-outcomes.ts';

export interface Machine {
  qemu: string;
  options: readonly string[];
  console: string;
  /** Where a linux-image package is unpacked. */
  kernel: string;
  busybox: string;
  /** The folder that becomes /. */
  root: string;
  /** Paths inside of the machine. */
  node: string;
}

/** All that reaches a 9p root over virtio; the rest is loaded by the kernel itself when it is wanted. */
const BOOT_MODULES = ['virtio_pci', 'virtio_console', 'virtio_rng', 'overlay', '9pnet_virtio', '9p'];

const KERNEL_OPTIONS = 'quiet loglevel=4 panic=-1 mitigations=off random.trust_cpu=on';
/** Far more than it takes: other work on the host is no fault of a machine's. */
const LIMIT_MS = 3_600_000;

/** The initial RAM disk: busybox, the modules in the order of their dependencies, the scripts beside this file. */
function initrd(machine: Machine, work: string): string {
  const tree = join(work, 'initrd');
  for (const folder of ['bin', 'modules', 'proc', 'sys', 'dev', 'shared', 'ram', 'root']) {
    mkdirSync(join(tree, folder), { recursive: true });
  }
  copyFileSync(machine.busybox, join(tree, 'bin/busybox'));
  execFileSync('ln', ['-s', 'busybox', join(tree, 'bin/sh')]);
  const version = kernelVersion(machine);
  const options = ['-d', machine.kernel, '-S', version, '--show-depends', '-a', ...BOOT_MODULES];
  const shown = execFileSync('modprobe', options, { encoding: 'utf8' });
  const files = new Set([...shown.matchAll(/^insmod (\S+)/gm)].map(([, file]) => file!));
  for (const [index, file] of [...files].entries()) {
    const target = join(tree, 'modules', `${index + 100}-${basename(file)}`);
    copyFileSync(file, target);
    if (file.endsWith('.xz')) execFileSync('xz', ['-d', target]);
  }
  for (const script of ['init.sh', 'session.sh']) {
    copyFileSync(join(project, 'scripts/vm', script), join(tree, script === 'init.sh' ? 'init' : script));
  }
  execFileSync('chmod', ['+x', join(tree, 'init')]);
  writeFileSync(join(tree, 'machine'), `PROJECT='${project.replace(/\/$/, '')}'\nNODE='${machine.node}'\n`);
  const archive = join(work, 'initrd.cpio');
  execFileSync('sh', ['-c', `find . | cpio -o -H newc --quiet > ${archive}`], { cwd: tree });
  return archive;
}

function kernelVersion(machine: Machine): string {
  return readdirSync(join(machine.kernel, 'lib/modules'))[0]!;
}

export interface Session {
  /** `6.1.0-56-amd64 x86_64 v20.20.2` */
  kernel: string | undefined;
  outcomes: ScenarioOutcome[];
  /** The end of the console, when the machine did not get to the end of its work. */
  console: string | undefined;
  seconds: number;
}

/** Boots the machine, runs the scenarios, returns what became of them. */
export async function boot(machine: Machine): Promise<Session> {
  const work = mkdtempSync(join(tmpdir(), 'original-dst-vm-'));
  const start = performance.now();
  try {
    const console = join(work, 'console');
    const share = (tag: string, path: string) =>
      `local,path=${path},mount_tag=${tag},security_model=none,readonly=on,multidevs=remap`;
    const options = [
      machine.options,
      ['-accel', 'tcg,thread=multi', '-smp', '2', '-m', '1536'],
      ['-nodefaults', '-no-user-config', '-nic', 'none', '-display', 'none', '-no-reboot'],
      ['-kernel', join(machine.kernel, 'boot', `vmlinuz-${kernelVersion(machine)}`)],
      ['-initrd', initrd(machine, work), '-append', `console=${machine.console} ${KERNEL_OPTIONS}`],
      ['-serial', `file:${console}`, '-device', 'virtio-rng-pci'],
      ['-device', 'virtio-serial-pci', '-chardev', 'stdio,id=out,signal=off'],
      ['-device', 'virtserialport,chardev=out,nr=1'],
      ['-virtfs', share('root', machine.root), '-virtfs', share('project', project)],
      ['-virtfs', share('modules', join(machine.kernel, 'lib/modules'))],
    ];
    const qemu = spawn(machine.qemu, options.flat(), { stdio: 'pipe' });
    const limit = setTimeout(() => qemu.kill('SIGKILL'), LIMIT_MS);
    let output = '';
    let errors = '';
    qemu.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
    qemu.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
    await once(qemu, 'close');
    clearTimeout(limit);
    const ended = output.includes('\n@end');
    return {
      kernel: /^@kernel (.*)/m.exec(output)?.[1],
      outcomes: readScenarios(output),
      console: ended ? undefined : errors + output.slice(-2000) + readFileSync(console, 'utf8').slice(-4000),
      seconds: Math.round((performance.now() - start) / 1000),
    };
  } finally {
    rmSync(work, { recursive: true });
  }
}
