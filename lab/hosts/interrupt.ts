/**
 * Work to be done when this process is told to end: by SIGINT, SIGTERM or SIGHUP. It runs once, latest registered
 * first; then the process ends by the same signal, so that its parent sees the truth. Further signals change nothing:
 * a terminal and a parent often send both.
 */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const works = new Set<() => Promise<void>>();
let interrupted = false;

function interrupt(signal: NodeJS.Signals): void {
  if (interrupted) return;
  interrupted = true;
  void runAll().finally(() => endBy(signal));
}

async function runAll(): Promise<void> {
  for (const work of [...works].toReversed()) {
    try {
      await work();
    } catch (error) {
      process.stderr.write(`while ending: ${error instanceof Error ? error.stack : String(error)}\n`);
    }
  }
}

function endBy(signal: NodeJS.Signals): void {
  for (const name of SIGNALS) process.off(name, interrupt);
  process.kill(process.pid, signal);
}

/** Registers work; gives the function that takes it back. */
export function onInterrupt(work: () => Promise<void>): () => void {
  const own = () => work(); // the same function may be registered twice
  if (works.size === 0) for (const name of SIGNALS) process.on(name, interrupt);
  works.add(own);
  return () => {
    works.delete(own);
    if (works.size === 0 && !interrupted) for (const name of SIGNALS) process.off(name, interrupt);
  };
}
