/** fio on an NBD export: what a guest, or whoever reads a view, gets. */
import { z } from 'zod';
import { checked } from '../images/corpus.ts';

export interface FioJob {
  readonly socketPath: string;
  readonly exportName: string;
  readonly rw: 'read' | 'randread' | 'write' | 'randwrite';
  readonly blockBytes: number;
  readonly depth: number;
  readonly seconds: number;
  /** Requests a second at most; left out: as fast as it goes. */
  readonly rate?: number;
  /** Once over the whole export instead of for so long. */
  readonly once?: boolean;
  /** So much of the export, from its beginning on; left out: all. */
  readonly bytes?: number;
}

export interface FioResult {
  readonly iops: number;
  readonly bytesPerSecond: number;
  /** From the request's start to its end, ms. */
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

const side = z.object({
  iops: z.number(),
  bw_bytes: z.number(),
  lat_ns: z.object({ max: z.number() }),
  clat_ns: z.object({ percentile: z.record(z.string(), z.number()).optional() }),
});
const output = z.object({ jobs: z.array(z.object({ error: z.number(), read: side, write: side })).min(1) });

export async function fio(job: FioJob): Promise<FioResult> {
  const { socketPath, exportName, rw, blockBytes, depth, seconds, rate, once = false, bytes } = job;
  const args = ['--name=bench', '--ioengine=nbd', `--uri=nbd+unix:///${exportName}?socket=${socketPath}`];
  args.push(`--rw=${rw}`, `--bs=${blockBytes}`, `--iodepth=${depth}`, '--randrepeat=0', '--norandommap');
  if (!once) args.push('--time_based', `--runtime=${seconds}`);
  args.push('--refill_buffers', '--output-format=json', '--percentile_list=50:99:99.9');
  if (bytes !== undefined) args.push(`--size=${bytes}`);
  if (rate !== undefined) args.push(`--rate_iops=${rate}`);
  const { stdout } = await checked('fio', args);
  const parsed = output.parse(JSON.parse(stdout.slice(stdout.indexOf('{'))));
  const { read, write } = parsed.jobs[0]!;
  const { iops, bw_bytes: bytesPerSecond, lat_ns: latency, clat_ns: completion } = rw.endsWith('read') ? read : write;
  const at = (name: string) => (completion.percentile?.[name] ?? Number.NaN) / 1e6;
  return {
    iops,
    bytesPerSecond,
    p50: at('50.000000'),
    p99: at('99.000000'),
    p999: at('99.900000'),
    max: latency.max / 1e6,
  };
}
