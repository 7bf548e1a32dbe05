// An exported ONNX detector from C++: ONNX Runtime and nothing else.
//
//   g++ -std=c++17 -O2 onnx_inference.cpp -I $ORT/include -L $ORT/lib -lonnxruntime -o detect
//   ./detect detector.onnx photo.ppm
//
// The photo is a binary PPM (P6) at the size that the detector is to see it at: the file's metadata
// "min_size" and "max_size" say which. Prints class, score and XYXY pixels, one detection a line.
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <onnxruntime_cxx_api.h>

struct Image {
  int64_t width = 0, height = 0;
  std::vector<unsigned char> rgb;  // row by row
};

Image read_ppm(const char* path) {
  std::ifstream file(path, std::ios::binary);
  std::string kind;
  Image image;
  int most = 0;
  file >> kind >> image.width >> image.height >> most;
  if (!file || kind != "P6" || most != 255) throw std::runtime_error("not a binary PPM of 8 bits");
  file.get();  // the one white space before the pixels
  image.rgb.resize(3 * image.width * image.height);
  file.read(reinterpret_cast<char*>(image.rgb.data()), image.rgb.size());
  if (!file) throw std::runtime_error("the PPM ends too early");
  return image;
}

int main(int argc, char** argv) try {
  if (argc != 3) throw std::runtime_error("usage: detect detector.onnx photo.ppm");
  Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "detect");
  Ort::Session session(env, argv[1], Ort::SessionOptions{});
  Ort::AllocatorWithDefaultOptions allocator;
  auto format = session.GetModelMetadata().LookupCustomMetadataMapAllocated("input_format", allocator);
  const bool is_bgr = format && std::string(format.get()) == "\"BGR\"";

  const Image photo = read_ppm(argv[2]);
  const int64_t pixels = photo.width * photo.height;
  std::vector<float> planes(3 * pixels);  // (3, H, W)
  for (int64_t i = 0; i < pixels; ++i)
    for (int c = 0; c < 3; ++c) planes[(is_bgr ? 2 - c : c) * pixels + i] = photo.rgb[3 * i + c];

  const int64_t shape[] = {3, photo.height, photo.width};
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  auto input = Ort::Value::CreateTensor<float>(memory, planes.data(), planes.size(), shape, 3);
  const char* inputs[] = {"image"};
  const char* outputs[] = {"boxes", "scores", "classes"};
  auto found = session.Run(Ort::RunOptions{nullptr}, inputs, &input, 1, outputs, 3);

  const int64_t count = found[1].GetTensorTypeAndShapeInfo().GetShape()[0];
  const float* box = found[0].GetTensorData<float>();
  const float* score = found[1].GetTensorData<float>();
  const int64_t* label = found[2].GetTensorData<int64_t>();
  for (int64_t i = 0; i < count; ++i, box += 4)
    std::printf("%lld %.4f %.2f %.2f %.2f %.2f\n", static_cast<long long>(label[i]), score[i],
                box[0], box[1], box[2], box[3]);
  return 0;
} catch (const std::exception& error) {  // Ort::Exception is one
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
