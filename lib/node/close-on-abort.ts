// What an AbortSignal is to something that was opened.

interface Opened {
  close(): unknown;
  once(event: 'close', listener: () => void): unknown;
}

/** Aborting `signal` is `close()`, at once if it is aborted already; it is let go of when that has closed. */
export function closeOnAbort(signal: AbortSignal | undefined, opened: Opened): void {
  if (!signal) return;
  const onAbort = (): void => void opened.close();
  signal.addEventListener('abort', onAbort);
  opened.once('close', () => signal.removeEventListener('abort', onAbort));
  if (signal.aborted) onAbort();
}
