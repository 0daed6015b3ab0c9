// What the kernel tells in files, which may be gone by the time they are read, or not be shown to everybody.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** Reading of files, links and directories that may not be there. */
export interface HostFiles {
  /** A file's text; undefined where it cannot be read. */
  read(path: string): string | undefined;
  /** What a symbolic link leads to; undefined where it cannot be read. */
  link(path: string): string | undefined;
  /** The names in a directory; none where it cannot be read. */
  list(path: string): string[];
}

function orUndefined<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

export const hostFiles: HostFiles = {
  read: (path) => orUndefined(() => readFileSync(path, 'utf8')),
  link: (path) => orUndefined(() => readlinkSync(path)),
  list: (path) => orUndefined(() => readdirSync(path)) ?? [],
};
