// Debian packages of any architecture, fetched and unpacked without installing them and without root: apt with
// folders and lists of its own.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const RELEASE = 'bookworm';
const KEYS = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** Where this machine gets Debian from, or Debian's own address. */
function mirror(suffix: string): string {
  const folder = '/etc/apt/sources.list.d';
  const files = [
    '/etc/apt/sources.list',
    ...(existsSync(folder) ? readdirSync(folder).map((f) => join(folder, f)) : []),
  ];
  const text = files.filter((file) => existsSync(file)).map((file) => readFileSync(file, 'utf8'));
  const found = new RegExp(`^[^#\n]*?(https?://\\S+/debian${suffix})/?(?=\\s|$)`, 'm').exec(text.join('\n'));
  return found?.[1] ?? `http://deb.debian.org/debian${suffix}`;
}

export class Packages {
  readonly #apt: string[];
  readonly #archives: string;
  #updated = false;

  /** @param folder where lists and archives are kept for the next time */
  constructor(folder: string, architecture: string, release = RELEASE) {
    const state = join(folder, 'apt');
    this.#archives = join(state, 'cache/archives');
    mkdirSync(join(state, 'lists/partial'), { recursive: true });
    mkdirSync(join(this.#archives, 'partial'), { recursive: true });
    writeFileSync(join(state, 'status'), '');
    writeFileSync(
      join(state, 'sources.list'),
      `deb [signed-by=${KEYS}] ${mirror('')} ${release} main\n` +
        (release === RELEASE
          ? `deb [signed-by=${KEYS}] ${mirror('-security')} ${RELEASE}-security main\n`
          : ''),
    );
    const settings = {
      'Dir::State': state,
      'Dir::State::status': join(state, 'status'),
      'Dir::Cache': join(state, 'cache'),
      'Dir::Etc::SourceList': join(state, 'sources.list'),
      'Dir::Etc::SourceParts': '/dev/null',
      'APT::Architecture': architecture,
      'APT::Architectures': architecture,
      'APT::Sandbox::User': '', // the folder need not be readable for _apt
      'Acquire::Languages': 'none',
      'Debug::NoLocking': 'true',
    };
    this.#apt = Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
  }

  #run(command: 'apt-get' | 'apt-cache', ...args: string[]): string {
    if (!this.#updated) {
      execFileSync('apt-get', [...this.#apt, '-qq', 'update'], { stdio: ['ignore', 'ignore', 'inherit'] });
      this.#updated = true;
    }
    return execFileSync(command, [...this.#apt, ...args], {
      cwd: this.#archives,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
      maxBuffer: 1 << 26,
    });
  }

  /**
   * The package that a metapackage stands for at present: linux-image-amd64 → linux-image-6.1.0-56-amd64. Undefined: there
   * is no such package.
   */
  resolve(metapackage: string): string | undefined {
    const found = this.#run('apt-cache', 'search', '--names-only', `^${metapackage}$`);
    if (found === '') return undefined;
    return /Depends: (\S+)/.exec(this.#run('apt-cache', 'depends', metapackage))![1]!;
  }

  /** The newest kernel for PCs of a series: linux-image-6.18 → linux-image-6.18.15+deb13-amd64. */
  newest(series: string): string {
    const pattern = `^${series}\\.[0-9]+\\+deb[0-9]+-amd64$`;
    const names = this.#run('apt-cache', 'search', '--names-only', pattern).split('\n');
    const patch = (name: string): number => Number(/\.(\d+)\+/.exec(name)?.[1] ?? -1);
    return names.map((line) => line.split(' ')[0]!).sort((a, b) => patch(b) - patch(a))[0]!;
  }

  /** Unpacks the packages, and with `dependencies` all that they need, into `folder`, unless it is there already. */
  unpack(folder: string, names: readonly string[], { dependencies = false } = {}): void {
    if (existsSync(folder)) return;
    for (const file of readdirSync(this.#archives)) rmSync(join(this.#archives, file), { recursive: true });
    mkdirSync(join(this.#archives, 'partial'));
    if (dependencies)
      this.#run('apt-get', '-qq', '--yes', '--no-install-recommends', '--download-only', 'install', ...names);
    else this.#run('apt-get', '-qq', 'download', ...names);
    const partial = `${folder}.partial`;
    rmSync(partial, { recursive: true, force: true });
    for (const file of readdirSync(this.#archives).filter((name) => name.endsWith('.deb'))) {
      execFileSync('dpkg', ['-x', join(this.#archives, file), partial]);
    }
    renameSync(partial, folder);
  }
}
