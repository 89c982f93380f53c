"""Loading the LLaMA: the embedded one, a hub's, a folder's or a random one, in its dtype, on its devices.

`loading` does it; `hub` downloads, `checkpoint` looks at what a folder holds, `memory` whether it fits, `placement`
where it goes, `quantization` makes its weights small; `random_llama` makes one without any files.
"""
