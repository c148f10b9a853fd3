// The version of Kiln: the one of package.json, which a test keeps equal.

export const VERSION = "0.1.0";
