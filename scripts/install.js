// npm's install script. On Linux: keep the shipped binary if it loads here, compile otherwise. Elsewhere there is
// nothing to compile, and nobody shall need Python to find that out.
if (process.platform === 'linux') await import('node-gyp-build/bin.js');
