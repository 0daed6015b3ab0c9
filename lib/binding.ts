// The one place that loads the addon.
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { Binding } from './addon.ts';
import { codedError, type CodedError } from './errors.ts';

export type * from './addon.ts';

let loaded: Binding | undefined;

/** Has this thread used the binary? */
export function bindingLoaded(): boolean {
  return loaded !== undefined;
}

/**
 * The one place that loads the binary. On first use, not on import: a program that runs on other systems too
 * may import this package everywhere and call it on Linux alone.
 */
export function binding(): Binding {
  return (loaded ??= load());
}

function notLoaded(cause: NodeJS.ErrnoException): CodedError {
  // There is nothing wrong with the binary: this process was told to load none, by one of two options.
  if (cause.code === 'ERR_DLOPEN_DISABLED') {
    return codedError(
      'ERR_BINDING_NOT_LOADED',
      'original-dst: native addons are switched off in this process',
      {
        hint: 'start node without `--no-addons`; under the permission model (`--permission`) add `--allow-addons`',
        cause,
      },
    );
  }
  return codedError(
    'ERR_BINDING_NOT_LOADED',
    `original-dst: no native binary for ${process.platform}-${process.arch}`,
    {
      hint: 'reinstall with install scripts allowed, or run `npx node-gyp rebuild` in the package’s folder',
      cause,
    },
  );
}

function load(): Binding {
  if (process.platform !== 'linux') {
    throw codedError(
      'ERR_UNSUPPORTED_PLATFORM',
      `original-dst works on Linux only, this is ${process.platform}`,
      {
        hint: 'importing is fine everywhere; guard the calls with process.platform',
      },
    );
  }
  const require = createRequire(import.meta.url);
  const packageRoot = fileURLToPath(new URL('../..', import.meta.url));
  try {
    return (require('node-gyp-build') as (directory: string) => Binding)(packageRoot);
  } catch (cause) {
    throw notLoaded(cause as NodeJS.ErrnoException);
  }
}
