/** BLAKE3 of a buffer, plain and slow: for the independent reader of delta logs. After the specification's own outline. */
const IV = [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];
const PERMUTATION = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
const CHUNK_START = 1;
const CHUNK_END = 2;
const PARENT = 4;
const ROOT = 8;
const COLUMNS_AND_DIAGONALS = [
  [0, 4, 8, 12],
  [1, 5, 9, 13],
  [2, 6, 10, 14],
  [3, 7, 11, 15],
  [0, 5, 10, 15],
  [1, 6, 11, 12],
  [2, 7, 8, 13],
  [3, 4, 9, 14],
];

const rotate = (word, by) => (word >>> by) | (word << (32 - by));

function compress(chain, words, counter, length, flags) {
  const state = [...chain, ...IV.slice(0, 4), counter, 0, length, flags]; // counters below 2^32 do here
  let message = words;
  for (let round = 0; round < 7; round++) {
    COLUMNS_AND_DIAGONALS.forEach(([a, b, c, d], i) => {
      for (const [half, first, second] of [
        [0, 16, 12],
        [1, 8, 7],
      ]) {
        state[a] = (state[a] + state[b] + message[2 * i + half]) | 0;
        state[d] = rotate(state[d] ^ state[a], first);
        state[c] = (state[c] + state[d]) | 0;
        state[b] = rotate(state[b] ^ state[c], second);
      }
    });
    message = PERMUTATION.map((from) => message[from]);
  }
  return state.slice(0, 8).map((word, i) => word ^ state[i + 8]);
}

function wordsOf(block) {
  const padded = Buffer.alloc(64);
  block.copy(padded);
  return Array.from({ length: 16 }, (_, i) => padded.readInt32LE(4 * i));
}

function chunkValue(chunk, counter, root) {
  let chain = IV;
  const blocks = Math.max(1, Math.ceil(chunk.length / 64));
  for (let i = 0; i < blocks; i++) {
    const block = chunk.subarray(64 * i, 64 * i + 64);
    const last = i === blocks - 1;
    const flags = (i === 0 ? CHUNK_START : 0) | (last ? CHUNK_END | root : 0);
    chain = compress(chain, wordsOf(block), counter, block.length, flags);
  }
  return chain;
}

function treeValue(bytes, firstChunk, root) {
  if (bytes.length <= 1024) return chunkValue(bytes, firstChunk, root);
  let left = 1024; // the largest power of two of chunks that leaves something on the right
  while (left * 2 < bytes.length) left *= 2;
  const words = [
    ...treeValue(bytes.subarray(0, left), firstChunk, 0),
    ...treeValue(bytes.subarray(left), firstChunk + left / 1024, 0),
  ];
  return compress(IV, words, 0, 64, PARENT | root);
}

export function blake3(bytes) {
  const out = Buffer.alloc(32);
  treeValue(bytes, 0, ROOT).forEach((word, i) => out.writeInt32LE(word, 4 * i));
  return out;
}
