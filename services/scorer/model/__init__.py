"""Loading the LLaMA: the embedded one, a hub's or a folder's, in its dtype, on its devices.

`loading` does it; `hub` downloads, `checkpoint` looks at what a folder holds, `memory` whether it fits, `placement`
where it goes, `quantization` makes its weights small; `embedded` is the model that ships.
"""
