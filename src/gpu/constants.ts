// The numbers behind WebGPU's flag namespaces, fixed by https://www.w3.org/TR/webgpu/#namespacedef-gpubufferusage and kept
// here because Node has no such globals unless someone installs them.

export const BufferUsage = {
  MAP_READ: 0x0001,
  MAP_WRITE: 0x0002,
  COPY_SRC: 0x0004,
  COPY_DST: 0x0008,
  UNIFORM: 0x0040,
  STORAGE: 0x0080,
  INDIRECT: 0x0100,
  QUERY_RESOLVE: 0x0200,
} as const;

export const TextureUsage = { COPY_SRC: 0x01, COPY_DST: 0x02, RENDER_ATTACHMENT: 0x10 } as const;

export const MapMode = { READ: 1, WRITE: 2 } as const;

export const ShaderStage = { COMPUTE: 4 } as const;
