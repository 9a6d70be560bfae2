# CPU:  docker build -t robustmix .
# CUDA: docker build -t robustmix --build-arg BASE=pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime --build-arg INDEX= .
ARG BASE=python:3.12-slim
FROM ${BASE}
ARG INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /opt/robustmix
COPY . .
RUN python -m pip install --no-cache-dir ${INDEX:+--extra-index-url ${INDEX}} '.[hf,video]'
# Data and runs are the user's: docker run -v "$PWD:/mnt" -e ROBUSTMIX_DATA=/mnt/data robustmix eval last.pth
WORKDIR /mnt
ENTRYPOINT ["robustmix"]
CMD ["--help"]
